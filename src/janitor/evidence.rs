//! What is known of each workbench, read for one sweep.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{Bench, Life, is_young};
use super::watchdog::Forecast;
use crate::clock::UnixSeconds;
use crate::home::atomic_file::FileError;
use crate::process_tree::Cookie;
use crate::routine::bounds::BoundsTable;
use crate::routine::slug::Slug;
use crate::run::entry::{Entry, Workbench};
use crate::run::id::RunId;
use crate::run::listing::workbench_ids;
use crate::run::liveness::{Liveness, assess};
use crate::run::record::RecordError;
use crate::run::recording::read_outcome;
use crate::run::workplace::Workplace;
use crate::session::users_sessions;

/// A workbench with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// What the plan needs.
    pub bench: Bench,
    /// By what its processes would be recognised.
    pub cookie: Option<Cookie>,
}

/// Looks at the workbenches of one routine, or of all, oldest first. In this order: workbenches, entries, outcomes. An
/// entry comes before its workbench and goes after its outcome, so that each is either unfinished or has an outcome.
///
/// `forecast` holds what a watchdog pass would have done before, where none was made: for a dry run.
///
/// # Errors
/// A folder of the home cannot be listed.
pub fn gather(
    workplace: &Workplace,
    only: Option<&Slug>,
    bounds: &mut BoundsTable<'_>,
    forecast: &Forecast,
    now: UnixSeconds,
) -> Result<Vec<Evidence>, FileError> {
    let mut runs = workbench_ids(&workplace.home)?;
    runs.retain(|run| only.is_none_or(|slug| run.routine() == slug));
    runs.sort();
    let mut entries = Entry::list(&workplace.home)?;
    entries.retain(|entry| only.is_none_or(|slug| entry.id().routine() == slug));
    let unfinished: BTreeSet<RunId> = entries.iter().map(|entry| entry.id().clone()).collect();
    let lives: BTreeMap<RunId, Life> =
        assess(entries).into_iter().map(|one| (one.entry.id().clone(), life_of_an_entry(one.liveness))).collect();
    let mut sessions = Sessions::new(workplace);
    Ok(runs
        .into_iter()
        .map(|run| match lives.get(&run) {
            // The pass before the sweep would have ended or recorded it.
            Some(_) if forecast.retain_from.contains_key(&run) => {
                bounds.get(run.routine());
                let retain_from = forecast.retain_from.get(&run).copied();
                Evidence { bench: Bench { run, life: Life::Finished, retain_from, log_written: None }, cookie: None }
            }
            Some(life) => without_outcome(run, life.clone(), None),
            // It finished between the listing and the look: too fresh to be due, and the next sweep sees its outcome.
            None if unfinished.contains(&run) => without_outcome(run, Life::Alive, None),
            None if is_young(&run, bounds.get(run.routine()), now) => without_outcome(run, Life::Unread, None),
            None => of_finished(workplace, run, &mut sessions),
        })
        .collect())
}

fn life_of_an_entry(liveness: Liveness) -> Life {
    match liveness {
        Liveness::Owned | Liveness::Unsupervised(_) => Life::Alive,
        Liveness::Unknown(cause) => Life::Unknown(cause),
        Liveness::Dead => Life::Unknown("its end is not recorded yet; the watchdog does that".to_owned()),
    }
}

fn without_outcome(run: RunId, life: Life, log_written: Option<UnixSeconds>) -> Evidence {
    Evidence { bench: Bench { run, life, retain_from: None, log_written }, cookie: None }
}

fn of_finished(workplace: &Workplace, run: RunId, sessions: &mut Sessions<'_>) -> Evidence {
    let workbench = Workbench::of(&workplace.home, &run);
    match read_outcome(&workbench, &run) {
        Ok(outcome) => Evidence {
            bench: Bench { run, life: Life::Finished, retain_from: Some(outcome.retain_from), log_written: None },
            cookie: Some(outcome.cookie),
        },
        Err(RecordError::File(error)) if error.is_not_found() => {
            let life = sessions.life_of(&run);
            let log_written = workbench.log_state().map(|(written, _)| written);
            without_outcome(run, life, log_written)
        }
        Err(error) => without_outcome(run, Life::Unknown(error.to_string()), None),
    }
}

/// The names of all sessions, ours and the user's, asked for only if some workbench was made by another program: that
/// one may be alive in a session, and nothing else could tell.
struct Sessions<'a> {
    workplace: &'a Workplace,
    names: Option<Result<BTreeSet<String>, String>>,
}

impl<'a> Sessions<'a> {
    fn new(workplace: &'a Workplace) -> Self {
        Self { workplace, names: None }
    }

    fn life_of(&mut self, run: &RunId) -> Life {
        let host = &self.workplace.session_host;
        let names = self.names.get_or_insert_with(|| {
            let mut names = host.list().map_err(|error| error.to_string())?;
            names.extend(users_sessions().map_err(|error| error.to_string())?);
            Ok(names)
        });
        match names {
            Ok(names) if names.contains(&run.session_name()) => Life::Alive,
            Ok(_) => Life::Finished,
            Err(cause) => Life::Unknown(format!("another program made it, and sessions cannot be listed: {cause}")),
        }
    }
}
