//! What happened in a period, bounded in size: counts of all runs, and those that need a look.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::listing;
use super::view::RunView;
use crate::clock::UnixSeconds;
use crate::git::Work;
use crate::home::atomic_file::FileError;
use crate::routine::slug::Slug;
use crate::run::context::Context;
use crate::run::id::RunId;
use crate::run::question::state::open_runs;
use crate::run::status::{Status, Tone};

/// What happened since a time.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Digest {
    /// The beginning of the period.
    pub since: UnixSeconds,
    /// All runs of the period, by how they are or ended.
    pub runs: BTreeMap<Status, usize>,
    /// The same by routine, those with the most bad runs first.
    pub routines: Vec<RoutineRuns>,
    /// Runs that wait for an answer, whenever they asked, oldest first.
    pub asked: Vec<RunView>,
    /// Runs whose facts contradict each other, newest first; each is in this list alone, or in `unsaved` too.
    pub disagreeing: Vec<RunView>,
    /// Runs that left work which no remote has, newest first. They may need another look, too.
    pub unsaved: Vec<RunView>,
    /// Runs that need a look, newest first.
    pub bad: Vec<RunView>,
    /// Runs that are not over, newest first.
    pub live: Vec<RunView>,
    /// What there was no room for, and how to see it.
    pub left_out: Option<String>,
}

/// The runs of a routine in a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RoutineRuns {
    /// The routine.
    pub routine: Slug,
    /// How many there were, by how they are or ended.
    pub runs: BTreeMap<Status, usize>,
    /// The newest.
    pub newest: RunId,
}

// Limits, because a digest goes into a model's context.
const MAX_ROUTINES: usize = 100;
const MAX_BAD_BYTES: usize = 32 * 1024;
const MAX_LIVE_BYTES: usize = 16 * 1024;
const MAX_EXAMINED: usize = 500;

/// Makes a digest of the runs that were triggered or ended at `since` or later, and of those that are not over.
pub(crate) fn digest(context: &Context, since: UnixSeconds) -> Result<Digest, FileError> {
    let mut runs: BTreeMap<Status, usize> = BTreeMap::new();
    let mut by_routine: BTreeMap<Slug, RoutineRuns> = BTreeMap::new();
    let (mut bad, mut live, mut over) = (Vec::new(), Vec::new(), Vec::new());
    for (run, status) in listing::since(context, since)?.into_iter().rev() {
        *runs.entry(status).or_default() += 1;
        let routine = by_routine.entry(run.routine().clone()).or_insert_with(|| RoutineRuns {
            routine: run.routine().clone(),
            runs: BTreeMap::new(),
            newest: run.clone(),
        });
        *routine.runs.entry(status).or_insert(0) += 1;
        match status.tone() {
            Tone::Active => live.push(run),
            tone => {
                if tone == Tone::Bad {
                    bad.push(run.clone());
                }
                over.push(run);
            }
        }
    }
    let mut routines: Vec<RoutineRuns> = by_routine.into_values().collect();
    routines.sort_by_key(|routine| std::cmp::Reverse(routine.bad()));
    let routines_total = routines.len();
    routines.truncate(MAX_ROUTINES);
    let live_total = live.len();
    let Examined { disagreeing, unsaved } = examine(context, &over);
    bad.retain(|run| !disagreeing.contains(run));
    let (bad_total, disagreeing_total) = (bad.len(), disagreeing.len());
    let disagreeing = within(context, &disagreeing, MAX_LIVE_BYTES);
    let bad = within(context, &bad, MAX_BAD_BYTES);
    let live = within(context, &live, MAX_LIVE_BYTES);
    let asked_runs = open_runs(&context.home)?;
    let asked = within(context, &asked_runs, MAX_LIVE_BYTES);
    let unsaved_total = unsaved.len();
    let unsaved = within(context, &unsaved, MAX_LIVE_BYTES);
    let left_out = [
        left_out(asked_runs.len() - asked.len(), "runs that wait for an answer", "list_runs with `status`"),
        left_out(disagreeing_total - disagreeing.len(), "runs of which facts disagree", "list_runs with `since`"),
        left_out(unsaved_total - unsaved.len(), "runs with unsaved work", "list_runs with `since`"),
        left_out(routines_total - routines.len(), "routines", "list_routines"),
        left_out(bad_total - bad.len(), "runs that need a look", "list_runs with `status` and `since`"),
        left_out(
            over.len().saturating_sub(MAX_EXAMINED),
            "runs that were not searched for facts that disagree and for unsaved work",
            "list_runs",
        ),
        left_out(live_total - live.len(), "runs that are not over", "list_runs with `status`"),
    ];
    let left_out = left_out.into_iter().flatten().reduce(|one, other| format!("{one}; {other}"));
    Ok(Digest { since, runs, routines, asked, disagreeing, unsaved, bad, live, left_out })
}

/// What was found in the newest runs.
#[derive(Default)]
struct Examined {
    disagreeing: Vec<RunId>,
    unsaved: Vec<RunId>,
}

/// Looks for what the status of a run does not tell.
fn examine(context: &Context, runs: &[RunId]) -> Examined {
    let mut examined = Examined::default();
    for run in runs.iter().take(MAX_EXAMINED).filter_map(|run| listing::find(context, run).ok()) {
        if run.work.iter().any(Work::is_unsaved) {
            examined.unsaved.push(run.id.clone());
        }
        if !run.disagreements.is_empty() {
            examined.disagreeing.push(run.id);
        }
    }
    examined
}

impl RoutineRuns {
    fn bad(&self) -> usize {
        self.runs.iter().filter(|(status, _)| status.tone() == Tone::Bad).map(|(_, count)| count).sum()
    }
}

fn left_out(count: usize, what: &str, tool: &str) -> Option<String> {
    (count > 0).then(|| format!("{count} more {what}: see {tool}"))
}

/// Shows as many of the first runs as fit.
fn within(context: &Context, runs: &[RunId], max_bytes: usize) -> Vec<RunView> {
    let mut bytes = 0;
    let shown = runs.iter().filter_map(|run| listing::find(context, run).ok());
    let fits = |run: &RunView| {
        bytes += serde_json::to_string(run).map_or(0, |text| text.len());
        bytes <= max_bytes
    };
    shown.map(|run| RunView { last_output: None, ..run.in_brief() }).take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use crate::home::config::Config;
    use crate::run::context::Program;
    use crate::run::disagreement::Disagreement;
    use crate::run::history::{self, Known};
    use crate::run::record::Outcome;

    #[test]
    fn all_runs_of_the_period_are_counted_and_what_there_is_no_room_for_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let context = Context::of_supervisor(home.clone(), Config::default(), Program::current().unwrap());
        let add = |routine: &str, stamp: u64, status| {
            let outcome = Outcome::example(&format!("{routine}-{stamp}"), status);
            history::append(&home, &context.config, &outcome, Known::New).unwrap();
        };
        add("old", 90, Status::Failed);
        for stamp in 100..150 {
            add("fine", stamp, Status::Succeeded);
            add("broken", stamp, Status::Failed);
            add("broken", stamp + 1000, Status::TimedOut);
        }
        (0..150).for_each(|n| add(&format!("many-{n}"), 200, Status::Stopped));
        let digest = digest(&context, UnixSeconds(100)).unwrap();
        let expected = [(Status::Succeeded, 50), (Status::Failed, 50), (Status::TimedOut, 50), (Status::Stopped, 150)];
        assert_eq!(digest.runs, expected.into());
        let first = &digest.routines[0];
        assert_eq!((first.routine.as_str(), first.newest.to_string()), ("broken", "broken-1149".to_owned()));
        assert_eq!(first.runs, [(Status::Failed, 50), (Status::TimedOut, 50)].into());
        assert_eq!(digest.routines.len(), MAX_ROUTINES);
        let bad = digest.bad.len();
        assert!((20..100).contains(&bad), "{bad}");
        assert_eq!(digest.bad[0].id.to_string(), "broken-1149", "the newest first");
        let left_out = digest.left_out.clone().unwrap();
        assert!(left_out.contains("52 more routines: see list_routines"), "{left_out}");
        assert!(left_out.contains(&format!("{} more runs that need a look", 100 - bad)), "{left_out}");
        assert!(serde_json::to_string(&digest).unwrap().len() < 64 * 1024);
        assert_eq!(digest.disagreeing, []);
        assert_eq!(super::digest(&context, UnixSeconds(2000)).unwrap().left_out, None);
    }

    #[test]
    fn runs_with_unsaved_work_that_there_is_no_room_for_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let context = Context::of_supervisor(home.clone(), Config::default(), Program::current().unwrap());
        for stamp in 100..150 {
            let work = vec![Work { untracked_files: 1, path: "src/".repeat(100), ..Work::default() }];
            let outcome = Outcome { work, ..Outcome::example(&format!("a-{stamp}"), Status::Succeeded) };
            history::append(&home, &context.config, &outcome, Known::New).unwrap();
        }
        let digest = super::digest(&context, UnixSeconds(100)).unwrap();
        let shown = digest.unsaved.len();
        assert!((5..50).contains(&shown), "{shown}");
        assert_eq!(
            digest.left_out,
            Some(format!("{} more runs with unsaved work: see list_runs with `since`", 50 - shown))
        );
    }

    #[test]
    fn runs_whose_facts_disagree_come_first_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let context = Context::of_supervisor(home.clone(), Config::default(), Program::current().unwrap());
        let add = |id: &str, status, disagreements: &[Disagreement]| {
            let reason = Some("why ".repeat(400));
            let outcome = Outcome { disagreements: disagreements.to_vec(), reason, ..Outcome::example(id, status) };
            history::append(&home, &context.config, &outcome, Known::New).unwrap();
        };
        add("a-100", Status::Succeeded, &[Disagreement::CallsDenied]);
        add("a-101", Status::Succeeded, &[]);
        add("a-102", Status::Failed, &[Disagreement::VerificationFailed]);
        add("a-103", Status::Failed, &[]);
        let ids = |runs: &[RunView]| runs.iter().map(|run| run.id.to_string()).collect::<Vec<_>>();
        let digest = super::digest(&context, UnixSeconds(100)).unwrap();
        assert_eq!(ids(&digest.disagreeing), ["a-102", "a-100"]);
        assert_eq!(ids(&digest.bad), ["a-103"]);
        assert_eq!(digest.left_out, None);
        (200..230).for_each(|stamp| add(&format!("b-{stamp}"), Status::Succeeded, &[Disagreement::NoReport]));
        let digest = super::digest(&context, UnixSeconds(100)).unwrap();
        let shown = digest.disagreeing.len();
        assert!((5..20).contains(&shown), "{shown}");
        let left_out = digest.left_out.unwrap();
        assert!(left_out.contains(&format!("{} more runs of which facts disagree", 32 - shown)), "{left_out}");
    }
}
