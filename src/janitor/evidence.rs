//! What is known of each workbench, read for one sweep.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::time::Instant;

use rustix::fs::statvfs;

use super::plan::{Bench, Disk, Life, is_young};
use super::remove::{self, Measured};
use super::watchdog::Forecast;
use crate::clock::UnixSeconds;
use crate::home::atomic_file::FileError;
use crate::process_tree::names;
use crate::process_tree::{Whereabouts, whereabouts};
use crate::routine::bounds::BoundsTable;
use crate::routine::slug::Slug;
use crate::run::context::Context;
use crate::run::entry::{Entry, Workbench};
use crate::run::id::RunId;
use crate::run::liveness::{JUDGE_PATIENCE, Liveness, look};
use crate::run::on_disk::workbench_ids;
use crate::run::pin;
use crate::run::record::RecordError;
use crate::run::recording::read_outcome;
use crate::session::users_sessions;

/// What a plan is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The workbenches, oldest first.
    pub benches: Vec<Bench>,
    /// The runs that are kept until they are unpinned.
    pub pins: BTreeSet<RunId>,
    /// What there is of disk, and what there should be.
    pub disk: Disk,
}

/// Looks at the workbenches of one routine, or of all. In this order: pins, workbenches, entries, outcomes. An entry comes
/// before its workbench and goes after its outcome, so that each is either unfinished or has an outcome.
///
/// `forecast` holds what a watchdog pass would have done before, where none was made: for a dry run. Where the home has a
/// budget, sizes are measured until `measure_until`; the budgets are the home's, and count only when all is looked at.
///
/// # Errors
/// A folder of the home cannot be listed.
pub fn gather(
    context: &Context,
    only: Option<&Slug>,
    bounds: &mut BoundsTable<'_>,
    forecast: &Forecast,
    now: UnixSeconds,
    measure_until: Instant,
) -> Result<Evidence, FileError> {
    let pins = pin::list(&context.home)?;
    let mut runs = workbench_ids(&context.home)?;
    runs.retain(|run| only.is_none_or(|slug| run.routine() == slug));
    runs.sort_unstable();
    let mut entries = Entry::list(&context.home)?;
    entries.retain(|entry| only.is_none_or(|slug| entry.id().routine() == slug));
    let unfinished: BTreeSet<RunId> = entries.iter().map(|entry| entry.id().clone()).collect();
    let lives: BTreeMap<RunId, Life> = look(&context.home, entries, JUDGE_PATIENCE)
        .into_iter()
        .map(|one| (one.entry.id().clone(), life_of_an_entry(one.liveness)))
        .collect();
    let (disk, sizes) = match only {
        None => look_at_disk(context, &runs, measure_until),
        Some(_) => Default::default(),
    };
    let short = disk.shortage(0).is_some();
    let mut strangers = Strangers::new(context);
    // Routines that keep their newest runs and have one that is of age: whether that is among them, the younger ones tell.
    let mut counted: HashSet<Slug> = HashSet::new();
    let look = |run: RunId| {
        let forecast = forecast.ended.get(&run);
        match lives.get(&run) {
            // The pass before the sweep would have ended or recorded it.
            Some(_) if forecast.is_some() => {}
            Some(life) => return Bench::new(run, life.clone()),
            // It finished between the listing and the look: too fresh to be due, and the next sweep sees its outcome.
            None if unfinished.contains(&run) => return Bench::new(run, Life::Alive),
            None => {}
        }
        let bounds = bounds.get(run.routine());
        if is_young(&run, bounds, now) {
            if !short && (bounds.keep_last == 0 || !counted.contains(run.routine())) {
                return Bench::new(run, Life::Unread);
            }
        } else if bounds.keep_last > 0 && !counted.contains(run.routine()) {
            counted.insert(run.routine().clone());
        }
        match forecast {
            Some(ended) => {
                Bench { status: ended.status, retain_from: Some(ended.retain_from), ..Bench::new(run, Life::Finished) }
            }
            None => of_finished(context, run, &mut strangers),
        }
    };
    let mut benches: Vec<Bench> = runs.into_iter().map(look).collect();
    for (bench, size) in benches.iter_mut().zip(sizes) {
        (bench.bytes, bench.measured) = (size.bytes, size.complete);
    }
    Ok(Evidence { benches, pins, disk })
}

/// Measures what the home's budgets ask for: what there is, and the size of each workbench. Nothing where there is no budget,
/// and no sizes while they would not matter.
fn look_at_disk(context: &Context, runs: &[RunId], until: Instant) -> (Disk, Vec<Measured>) {
    let Context { home, config, .. } = context;
    let late = || Instant::now() >= until;
    let free_of_min = config.min_free_bytes.and_then(|min| match statvfs(home.workbenches()) {
        // What lies in the trash is as good as free.
        Ok(disk) => {
            let trash = remove::measure(home.root(), "trash".as_ref(), &late).bytes;
            if late() {
                tracing::warn!("the trash takes too long to be measured, so min_free_bytes is left out this time");
                return None;
            }
            Some((disk.f_bavail.saturating_mul(disk.f_frsize).saturating_add(trash), min))
        }
        Err(error) => {
            tracing::warn!(%error, "free disk cannot be told, so min_free_bytes is left out this time");
            None
        }
    });
    let free = Disk { used_of_max: None, free_of_min };
    if config.max_workbench_bytes.is_none() && free.shortage(0).is_none() {
        return (free, Vec::new());
    }
    let measure = |run: &RunId| remove::measure(&home.workbenches(), run.to_string().as_ref(), &late);
    let sizes: Vec<Measured> = runs.iter().map(measure).collect();
    let used = sizes.iter().map(|size| size.bytes).sum();
    (Disk { used_of_max: config.max_workbench_bytes.map(|max| (used, max)), ..free }, sizes)
}

fn life_of_an_entry(liveness: Liveness) -> Life {
    match liveness {
        Liveness::Owned => Life::Alive,
        Liveness::Unsupervised(left) => Life::Unsupervised(names(&left)),
        Liveness::Unknown(cause) | Liveness::Judging(cause) => Life::Unknown(cause),
        Liveness::Dead => Life::Unknown("its end is not recorded yet; the watchdog does that".to_owned()),
    }
}

fn of_finished(context: &Context, run: RunId, strangers: &mut Strangers<'_>) -> Bench {
    let workbench = Workbench::of(&context.home, &run);
    match read_outcome(&workbench, &run) {
        Ok(outcome) => Bench {
            status: outcome.status,
            retain_from: Some(outcome.retain_from),
            cookie: Some(outcome.cookie),
            ..Bench::new(run, Life::Finished)
        },
        Err(RecordError::File(error)) if error.is_not_found() => {
            let life = strangers.life_of(&run);
            Bench { log_written: workbench.log_state().map(|(written, _)| written), ..Bench::new(run, life) }
        }
        Err(error) => Bench::new(run, Life::Unknown(error.to_string())),
    }
}

/// Which workbenches of other programs are alive, asked for only if there are any: by a session, ours or the user's, or by a
/// process. Nothing else could tell, also where a person deleted the entry of a run of ours.
struct Strangers<'a> {
    context: &'a Context,
    sessions: Option<Result<BTreeSet<String>, String>>,
    inhabited: Option<Result<BTreeSet<RunId>, String>>,
}

impl<'a> Strangers<'a> {
    fn new(context: &'a Context) -> Self {
        Self { context, sessions: None, inhabited: None }
    }

    fn life_of(&mut self, run: &RunId) -> Life {
        let home = &self.context.home;
        let inhabited = self.inhabited.get_or_insert_with(|| {
            let seen = whereabouts().map_err(|error| error.to_string())?;
            Ok(seen.iter().flat_map(|one| runs_of(one, &home.workbenches())).collect())
        });
        let sessions = self.sessions.get_or_insert_with(|| users_sessions().map_err(|error| error.to_string()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use crate::home::atomic_file;
    use crate::home::config::Config;
    use crate::run::context::Program;
    use crate::run::record::Outcome;
    use crate::run::status::Status;
    use std::time::Duration;

    #[test]
    fn sizes_that_were_not_told_in_time_are_known_to_be_too_small() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let run: RunId = "a-1".parse().unwrap();
        let workbench = Workbench::of(&home, &run);
        workbench.make().unwrap();
        atomic_file::write_json(&workbench.outcome_file(), &Outcome::example("a-1", Status::Succeeded)).unwrap();
        let config = Config { max_workbench_bytes: Some(0), min_free_bytes: Some(u64::MAX), ..Config::default() };
        let context = Context::of_supervisor(home, config, Program::current().unwrap());
        let gathered = |until| {
            let mut bounds = BoundsTable::new(&context.home, &context.config);
            gather(&context, None, &mut bounds, &Forecast::default(), UnixSeconds(9), until).unwrap()
        };
        let Evidence { benches, disk, .. } = gathered(Instant::now() + Duration::from_secs(60));
        assert!(benches[0].measured && benches[0].bytes > 0 && disk.free_of_min.is_some());
        let Evidence { benches, disk, .. } = gathered(Instant::now());
        assert!(!benches[0].measured && disk.free_of_min.is_none(), "{disk:?}");
    }
}
