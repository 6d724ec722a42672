//! What is known of the workbenches, read for one sweep.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::statvfs;

use super::plan::{Disk, Item, RunState, is_young};
use super::remove::{self, Measured};
use super::watchdog::Forecast;
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::process_tree::names;
use crate::process_tree::{Whereabouts, whereabouts};
use crate::routine::bounds::BoundsTable;
use crate::routine::slug::Slug;
use crate::run::context::Context;
use crate::run::continuation::index::Continuations;
use crate::run::entry::Entry;
use crate::run::id::RunId;
use crate::run::liveness::{Liveness, look};
use crate::run::on_disk::workbench_ids;
use crate::run::outcome_file::read_newest_outcome;
use crate::run::pin;
use crate::run::question;
use crate::run::record::{Outcome, RecordError};
use crate::run::status::Status;
use crate::run::workbench::Workbench;
use crate::session::users_sessions;

/// What a plan is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inventory {
    pub(super) items: Vec<Item>,
    pub(super) pins: BTreeSet<RunId>,
    pub(super) disk: Disk,
}

/// How long judges are waited for under the sweep's lock. Slurm is not asked meanwhile: a run with an entry stays anyway.
const JUDGES_TIMEOUT: Duration = Duration::from_millis(900);

impl Inventory {
    /// Looks at the workbenches of one routine, or of all. In this order: pins, workbenches, entries, outcomes. An entry
    /// comes before its workbench and goes after its outcome, so that each run is either unfinished or has an outcome.
    ///
    /// `forecast` stands in for the watchdog pass that a dry run does not make. Where the home has a budget, sizes are
    /// measured until `measure_until`; budgets are the home's, so they count only for all routines together.
    ///
    /// # Errors
    /// A folder of the home cannot be listed.
    pub(super) fn take(
        context: &Context,
        only: Option<&Slug>,
        bounds: &mut BoundsTable<'_>,
        forecast: &Forecast,
        now: UnixSeconds,
        measure_until: Instant,
    ) -> Result<Self, FileError> {
        let wanted = |run: &RunId| only.is_none_or(|slug| run.routine() == slug);
        let pins = pin::list(&context.home)?;
        let mut runs = workbench_ids(&context.home)?;
        runs.retain(wanted);
        runs.sort_unstable();
        let mut entries = Entry::list(&context.home)?;
        entries.retain(|entry| wanted(entry.id()));
        // By the workbench that each is in: an entry keeps that of another run alive.
        let continuations = Continuations::read(&context.home)?;
        let unfinished: BTreeSet<RunId> =
            entries.iter().map(|entry| continuations.workbench_of(entry.id()).clone()).collect();
        let states: BTreeMap<RunId, RunState> = look(context, entries, JUDGES_TIMEOUT)
            .into_iter()
            .map(|one| (continuations.workbench_of(one.entry.id()).clone(), state_of_entry(one.liveness)))
            .collect();
        let (disk, sizes) = match only {
            None => measure_disk(context, &runs, measure_until),
            Some(_) => Default::default(),
        };
        let short = disk.shortage(0).is_some();
        // A workbench without entry and outcome is of another program, or a person deleted the entry. Only a process or a session
        // (ours or the user's) shows that it is in use; both are listed once, and only if there is such a workbench.
        let in_use = LazyCell::new(|| runs_in_use(&context.home.workbenches()));
        let sessions = LazyCell::new(|| users_sessions().map_err(|error| error.to_string()));
        let state_of_stranger = |run: &RunId| state_of_stranger(run, &in_use, &sessions);
        let asking = question::state::open_runs(&context.home)?;
        // Routines with a `keep_last` and a run that is of age: only their younger runs show whether it is among the newest.
        let mut counted: HashSet<Slug> = HashSet::new();
        let look = |run: RunId| {
            let newest = continuations.newest_in(&run);
            let forecast = forecast.ended.get(newest);
            match states.get(&run) {
                // The pass before the sweep would have ended or recorded it.
                Some(_) if forecast.is_some() => {}
                Some(state) => return Item::new(run, state.clone()),
                // It ended between the listing and the look: too fresh to be removed, and the next sweep sees its outcome.
                None if unfinished.contains(&run) => return Item::new(run, RunState::Alive),
                None => {}
            }
            if asking.binary_search(newest).is_ok() {
                return Item { newest: Some(newest.clone()), ..Item::new(run, RunState::Asked) };
            }
            let bounds = bounds.get(run.routine());
            if is_young(&run, bounds, now) {
                if !short && (bounds.keep_last == 0 || !counted.contains(run.routine())) {
                    return Item::new(run, RunState::Unread);
                }
            } else if bounds.keep_last > 0 && !counted.contains(run.routine()) {
                counted.insert(run.routine().clone());
            }
            match forecast {
                Some(ended) => Item {
                    status: ended.status,
                    retain_from: Some(ended.retain_from),
                    ..Item::new(run, RunState::Finished)
                },
                None => item_without_entry(context, run, &state_of_stranger),
            }
        };
        let mut items: Vec<Item> = runs.into_iter().map(look).collect();
        for (item, size) in items.iter_mut().zip(sizes) {
            (item.bytes, item.measured) = (size.bytes, size.complete);
        }
        Ok(Self { items, pins, disk })
    }
}

/// Measures what the home's budgets need: the free disk, and the size of each workbench where a budget may be exceeded.
fn measure_disk(context: &Context, runs: &[RunId], until: Instant) -> (Disk, Vec<Measured>) {
    let Context { home, config, .. } = context;
    let late = || Instant::now() >= until;
    let free_of_min = config.min_free_bytes.and_then(|min| match statvfs(home.workbenches()) {
        // What lies in the trash is as good as free.
        Ok(disk) => {
            let trash = remove::measure(home.root(), "trash".as_ref(), &late).bytes;
            if late() {
                tracing::warn!("measuring the trash takes too long; min_free_bytes is ignored this time");
                return None;
            }
            Some((disk.f_bavail.saturating_mul(disk.f_frsize).saturating_add(trash), min))
        }
        Err(error) => {
            tracing::warn!(%error, "cannot read the free disk; min_free_bytes is ignored this time");
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

fn state_of_entry(liveness: Liveness) -> RunState {
    match liveness {
        Liveness::Owned | Liveness::Queued(_) | Liveness::Elsewhere(_) => RunState::Alive,
        Liveness::Unsupervised(left) => RunState::Unsupervised(names(&left)),
        Liveness::Unknown(cause) | Liveness::Judging(cause) => RunState::Unknown(cause),
        Liveness::Dead => RunState::Unknown("its end is not recorded yet; the watchdog does that".to_owned()),
    }
}

fn item_without_entry(context: &Context, run: RunId, state_of_stranger: &dyn Fn(&RunId) -> RunState) -> Item {
    let workbench = Workbench::named(&context.home, &run);
    match read_newest_outcome(&context.home, &run) {
        Ok(outcome) => {
            let (state, closed_at) = state_of_finished(&context.home, &outcome);
            Item {
                newest: Some(outcome.id.clone()),
                status: outcome.status,
                retain_from: Some(closed_at.map_or(outcome.retain_from, |at| at.max(outcome.retain_from))),
                cookie: Some(outcome.cookie),
                ..Item::new(run, state)
            }
        }
        Err(RecordError::File(error)) if error.is_not_found() => {
            let state = state_of_stranger(&run);
            Item { log_written: workbench.log_state().map(|(written, _)| written), ..Item::new(run, state) }
        }
        Err(error) => Item::new(run, RunState::Unknown(error.to_string())),
    }
}

/// Returns whether a run that ended still waits for an answer, and when its question was closed.
fn state_of_finished(home: &Home, outcome: &Outcome) -> (RunState, Option<UnixSeconds>) {
    if outcome.status != Status::Asked {
        return (RunState::Finished, None);
    }
    match question::state::read_close(home, &outcome.id) {
        Ok(Some(_)) if question::state::is_unsettled(home, &outcome.id) => (RunState::Asked, None),
        Ok(Some(close)) => (RunState::Finished, Some(close.at)),
        Ok(None) => (RunState::Asked, None),
        Err(error) => (RunState::Unknown(error.to_string()), None),
    }
}

fn state_of_stranger(
    run: &RunId,
    in_use: &Result<BTreeSet<RunId>, String>,
    sessions: &Result<BTreeSet<String>, String>,
) -> RunState {
    let unknown = |what: &str, cause: &String| {
        RunState::Unknown(format!("another program made it, and {what} cannot be listed: {cause}"))
    };
    match (in_use, sessions) {
        (Ok(in_use), _) if in_use.contains(run) => RunState::Alive,
        (_, Ok(names)) if names.contains(&run.session_name()) => RunState::Alive,
        (Err(cause), _) => unknown("processes", cause),
        (_, Err(cause)) => unknown("sessions", cause),
        (Ok(_), Ok(_)) => RunState::Finished,
    }
}

fn runs_in_use(workbenches: &Path) -> Result<BTreeSet<RunId>, String> {
    let seen = whereabouts().map_err(|error| error.to_string())?;
    Ok(seen.iter().flat_map(|one| runs_of(one, workbenches)).collect())
}

/// Returns the runs that a process keeps alive: the one it names in its environment, and the one in whose workbench it works.
fn runs_of(process: &Whereabouts, workbenches: &Path) -> impl Iterator<Item = RunId> + use<> {
    let inside = process.directory.as_ref().and_then(|directory| directory.strip_prefix(workbenches).ok());
    let worked_in = inside.and_then(|inside| inside.iter().next()?.to_str()?.parse().ok());
    let named = process.run.as_ref().and_then(|run| run.parse().ok());
    worked_in.into_iter().chain(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::atomic_file;
    use crate::home::config::Config;
    use crate::run::context::Program;
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
        let taken = |until| {
            let mut bounds = BoundsTable::new(&context.home, &context.config);
            Inventory::take(&context, None, &mut bounds, &Forecast::default(), UnixSeconds(9), until).unwrap()
        };
        let Inventory { items, disk, .. } = taken(Instant::now() + Duration::from_secs(60));
        assert!(items[0].measured && items[0].bytes > 0 && disk.free_of_min.is_some());
        let Inventory { items, disk, .. } = taken(Instant::now());
        assert!(!items[0].measured && disk.free_of_min.is_none(), "{disk:?}");
    }
}
