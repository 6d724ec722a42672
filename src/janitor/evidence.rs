//! What is known of each workbench, read for one sweep.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::plan::{Bench, Life, is_young};
use super::watchdog::Forecast;
use crate::clock::UnixSeconds;
use crate::home::atomic_file::FileError;
use crate::process_tree::{Cookie, Whereabouts, whereabouts};
use crate::routine::bounds::BoundsTable;
use crate::routine::slug::Slug;
use crate::run::entry::{Entry, Workbench};
use crate::run::id::RunId;
use crate::run::listing::workbench_ids;
use crate::run::liveness::{Liveness, assess};
use crate::run::record::RecordError;
use crate::run::recording::read_outcome;
use crate::run::view::names;
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
    let mut strangers = Strangers::new(workplace);
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
            None => of_finished(workplace, run, &mut strangers),
        })
        .collect())
}

fn life_of_an_entry(liveness: Liveness) -> Life {
    match liveness {
        Liveness::Owned => Life::Alive,
        Liveness::Unsupervised(left) => Life::Unsupervised(names(&left)),
        Liveness::Unknown(cause) => Life::Unknown(cause),
        Liveness::Dead => Life::Unknown("its end is not recorded yet; the watchdog does that".to_owned()),
    }
}

fn without_outcome(run: RunId, life: Life, log_written: Option<UnixSeconds>) -> Evidence {
    Evidence { bench: Bench { run, life, retain_from: None, log_written }, cookie: None }
}

fn of_finished(workplace: &Workplace, run: RunId, strangers: &mut Strangers<'_>) -> Evidence {
    let workbench = Workbench::of(&workplace.home, &run);
    match read_outcome(&workbench, &run) {
        Ok(outcome) => Evidence {
            bench: Bench { run, life: Life::Finished, retain_from: Some(outcome.retain_from), log_written: None },
            cookie: Some(outcome.cookie),
        },
        Err(RecordError::File(error)) if error.is_not_found() => {
            let life = strangers.life_of(&run);
            let log_written = workbench.log_state().map(|(written, _)| written);
            without_outcome(run, life, log_written)
        }
        Err(error) => without_outcome(run, Life::Unknown(error.to_string()), None),
    }
}

/// Which workbenches of other programs are alive, asked for only if there are any: by a session, ours or the user's, or by a
/// process. Nothing else could tell, also where a person deleted the entry of a run of ours.
struct Strangers<'a> {
    workplace: &'a Workplace,
    sessions: Option<Result<BTreeSet<String>, String>>,
    inhabited: Option<Result<BTreeSet<RunId>, String>>,
}

impl<'a> Strangers<'a> {
    fn new(workplace: &'a Workplace) -> Self {
        Self { workplace, sessions: None, inhabited: None }
    }

    fn life_of(&mut self, run: &RunId) -> Life {
        let Workplace { home, session_host, .. } = self.workplace;
        let inhabited = self.inhabited.get_or_insert_with(|| {
            let seen = whereabouts().map_err(|error| error.to_string())?;
            Ok(seen.iter().flat_map(|one| runs_of(one, &home.workbenches())).collect())
        });
        let sessions = self.sessions.get_or_insert_with(|| {
            let mut names = session_host.list().map_err(|error| error.to_string())?;
            names.extend(users_sessions().map_err(|error| error.to_string())?);
            Ok(names)
        });
        let unknown = |what: &str, cause: &String| {
            Life::Unknown(format!("another program made it, and {what} cannot be listed: {cause}"))
        };
        match (inhabited, sessions) {
            (Ok(inhabited), _) if inhabited.contains(run) => Life::Alive,
            (_, Ok(names)) if names.contains(&run.session_name()) => Life::Alive,
            (Err(cause), _) => unknown("processes", cause),
            (_, Err(cause)) => unknown("sessions", cause),
            (Ok(_), Ok(_)) => Life::Finished,
        }
    }
}

/// Returns the runs that a process shows to be alive: the one that it says it is of, and the one in whose workbench it
/// works.
fn runs_of(process: &Whereabouts, workbenches: &Path) -> impl Iterator<Item = RunId> + use<> {
    let inside = process.directory.as_ref().and_then(|directory| directory.strip_prefix(workbenches).ok());
    let worked_in = inside.and_then(|inside| inside.iter().next()?.to_str()?.parse().ok());
    let named = process.run.as_ref().and_then(|run| run.parse().ok());
    worked_in.into_iter().chain(named)
}
