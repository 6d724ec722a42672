//! Everything that is known about one run, with the evidence.

use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::view::{RunView, outcome_of, recorded_outcome};
use super::{listing, wait};
use crate::agent::output::{Summary, Usage as AgentUsage};
use crate::archive;
use crate::clock::{HumanDuration, UnixSeconds};
use crate::git::Work;
use crate::home::Home;
use crate::options::Options;
use crate::process_tree::{Process, ProcessId, Scan, Usage, usage};
use crate::quote::quote;
use crate::routine::bounds::Retention;
use crate::run::context::Context;
use crate::run::continuation::{runs_of, workbench_name};
use crate::run::end::EndError;
use crate::run::entry::Entry;
use crate::run::id::RunId;
use crate::run::liveness::{Assessment, JUDGE_LOCK_TIMEOUT, Liveness, look};
use crate::run::log::Log;
use crate::run::output::{Source, read_summary};
use crate::run::record::{Manifest, Origin, Outcome};
use crate::run::recorded_processes::RecordedProcesses;
use crate::run::report::{REPORT_FILE, read_more};
use crate::run::status::Status;
use crate::run::this_machine::Here;
use crate::run::workbench::Workbench;

/// All that is known of one run.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Inspection {
    /// As in list_runs.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub run: RunView,
    /// The runs that went on in one workbench, this one among them, and what they used together.
    pub chain: Option<Chain>,
    /// Whether anything of it is alive.
    pub liveness: LivenessView,
    /// How that is known.
    pub liveness_reason: String,
    /// When its workbench goes, and why then.
    pub retention: String,
    /// The agent's name.
    pub agent: Option<String>,
    /// Where the work that nobody else had is, since its workbench went or before.
    pub archive: Option<ArchiveView>,
    /// The command that brings it back.
    pub recover_command: Option<String>,
    /// Its agent's options.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub options: Options,
    /// What is executed, while the run is unfinished; long words are cut.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// What started it.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub origin: Option<Origin>,
    /// Why it has no window, where it could not be opened; the run is the same without one.
    pub window_problem: Option<String>,
    /// Its processes, those first that used most; 50 at most.
    pub processes: Vec<RunProcess>,
    /// How many there are; absent where that is not known.
    pub processes_total: Option<usize>,
    /// When it last printed something.
    pub last_output_at: Option<UnixSeconds>,
    /// The last 50 lines that it printed, 8 KiB at most.
    pub log_tail: String,
}

/// Runs that went on in one workbench.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Chain {
    /// The first one first.
    pub runs: Vec<RunId>,
    /// The sum of what those that are over reported.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub usage: Option<AgentUsage>,
}

/// An archive of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArchiveView {
    /// Its directory.
    pub path: String,
    /// Its size on disk, without the commits that it shares with other archives.
    pub bytes: u64,
    /// The repositories in it, relative to the workbench.
    pub repositories: Vec<String>,
    /// How many files are in it, changed ones in repositories included.
    pub files: u64,
}

/// Whether a run is alive (rule 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LivenessView {
    /// Something of it is.
    Alive,
    /// Nothing of it is.
    Finished,
    /// Neither is certain.
    Unknown,
}

/// A process of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunProcess {
    /// Its process id.
    pub pid: i32,
    /// Its name; the supervisor is ours.
    pub name: String,
    /// Processor time so far.
    pub cpu_ms: u64,
    /// Resident memory.
    pub memory_bytes: u64,
}

const SHOWN_PROCESSES: usize = 50;
const SHOWN_WORDS: usize = 50;
const SHOWN_WORD_CHARS: usize = 200;
const SHOWN_LOG_LINES: usize = 50;
const SHOWN_LOG_BYTES: usize = 8 * 1024;

pub fn inspect(context: &Context, id: &RunId) -> Result<Inspection, EndError> {
    let workbench = Workbench::of(&context.home, id);
    let entry = Entry::of(&context.home, id);
    // Before the view, which says how to attach unless there is one.
    let window_problem = entry.window_problem();
    let assessment = if entry.exists() { look(context, vec![entry], JUDGE_LOCK_TIMEOUT).pop() } else { None };
    let mut run = match &assessment {
        Some(assessment) => RunView::of_unfinished(context, assessment),
        None => listing::find(context, id)?,
    };
    let outcome = match &assessment {
        Some(assessment) => outcome_of(context, assessment).ok().flatten(),
        None => recorded_outcome(context, id).ok(),
    };
    let manifest = assessment.as_ref().and_then(|assessment| assessment.manifest.as_ref().ok());
    if run.output.is_none() && !wait::is_over(&run) {
        let summary = manifest.and_then(|manifest| read_summary(context, manifest, Source::Live));
        run.output = summary.filter(|summary| *summary != Summary::default());
    }
    let (liveness, liveness_reason) = liveness(&run, assessment.as_ref(), outcome.is_some());
    let processes = assessment.as_ref().map_or(Some(Vec::new()), |one| processes_of(&context.home, one));
    let tail = Log::open(&workbench).and_then(|log| log.tail(SHOWN_LOG_LINES, SHOWN_LOG_BYTES));
    let archived_as = workbench_name(context, id);
    let archive = archive::read(&context.home, &archived_as).ok().flatten();
    if let Some(recorded) = run.report.as_ref().filter(|report| report.is_cut) {
        let places = [workbench.report_file(), archive::file(&context.home, &archived_as, REPORT_FILE)];
        let whole = places.iter().find_map(|place| read_more(place, recorded));
        run.report = whole.or(run.report.take());
    }
    let can_recover =
        archive.is_some() || (wait::is_over(&run) && run.work.iter().any(Work::is_unsaved) && workbench.exists());
    Ok(Inspection {
        archive: archive.as_ref().map(|archive| ArchiveView {
            path: archive::directory(&context.home, &archived_as).display().to_string(),
            bytes: archive.bytes,
            repositories: archive.repositories.iter().map(|repository| repository.work.path.clone()).collect(),
            files: archive.file_count(),
        }),
        recover_command: can_recover.then(|| archive::recover_command(id)),
        chain: chain(context, &run),
        liveness,
        liveness_reason,
        retention: retention(&run, outcome.as_ref(), workbench.exists()),
        agent: manifest
            .map(|manifest| manifest.command.agent.clone())
            .or_else(|| Some(outcome.as_ref()?.agent.clone())),
        options: match (manifest, &outcome) {
            (Some(manifest), _) => manifest.command.options.clone(),
            (None, outcome) => outcome.as_ref().map(|outcome| outcome.options.clone()).unwrap_or_default(),
        },
        command: manifest.map(words).unwrap_or_default(),
        origin: manifest.map(|manifest| manifest.origin.clone()).or_else(|| Some(outcome.as_ref()?.origin.clone())),
        window_problem,
        processes_total: processes.as_ref().map(Vec::len),
        processes: processes.map(|all| all.into_iter().take(SHOWN_PROCESSES).collect()).unwrap_or_default(),
        last_output_at: last_output(&workbench, outcome.as_ref()),
        log_tail: tail.map_or_else(|error| format!("[moadim] {error}"), |tail| tail.text),
        run,
    })
}

/// Returns the runs that a run belongs to, if others went on from it or it went on from others.
fn chain(context: &Context, run: &RunView) -> Option<Chain> {
    if run.continues.is_none() && run.continued_by.is_none() {
        return None;
    }
    let name = workbench_name(context, &run.id);
    let mut runs = runs_of(&context.home, &name).ok()?;
    if !runs.contains(&run.id) {
        // The records went with the workbench.
        runs = vec![run.id.clone()];
        let mut before = run.continues.clone();
        while let Some(earlier) = before.filter(|earlier| *earlier < runs[runs.len() - 1]) {
            before =
                context.history.find(&context.home, &earlier).ok().flatten().and_then(|past| past.outcome.continues);
            runs.push(earlier);
        }
        runs.reverse();
    }
    let past = runs.iter().filter_map(|run| context.history.find(&context.home, run).ok().flatten());
    let usage = past.filter_map(|past| past.outcome.output?.usage).reduce(|mut sum, usage| {
        sum.add(&usage);
        sum
    });
    Some(Chain { runs, usage })
}

fn liveness(run: &RunView, assessment: Option<&Assessment>, is_recorded: bool) -> (LivenessView, String) {
    match assessment.map(|assessment| &assessment.liveness) {
        Some(Liveness::Owned) => {
            (LivenessView::Alive, "its supervisor, or its trigger while it starts, holds its lock".to_owned())
        }
        Some(Liveness::Queued(what) | Liveness::Elsewhere(what)) => (LivenessView::Alive, what.clone()),
        Some(Liveness::Unsupervised(left)) => (
            LivenessView::Alive,
            format!(
                "nobody holds its lock, and {} of its processes are alive; the watchdog holds it to its bounds",
                left.len()
            ),
        ),
        Some(Liveness::Unknown(cause) | Liveness::Judging(cause)) => (LivenessView::Unknown, cause.clone()),
        Some(Liveness::Dead) if is_recorded => {
            (LivenessView::Finished, "its end is recorded; the watchdog's next pass removes its entry".to_owned())
        }
        Some(Liveness::Dead) => (
            LivenessView::Finished,
            "nobody holds its lock and none of its processes is left; the watchdog's next pass records its end"
                .to_owned(),
        ),
        None if run.status == Status::Unknown => (LivenessView::Unknown, run.status_reason.clone().unwrap_or_default()),
        None => (LivenessView::Finished, "its end is recorded, and it has no entry in running/ any more".to_owned()),
    }
}

fn retention(run: &RunView, outcome: Option<&Outcome>, is_there: bool) -> String {
    match (run.reap_at, outcome, &run.kept_because) {
        _ if !is_there => "its workbench is gone".to_owned(),
        (_, _, Some(reason)) => format!("its workbench stays: {reason}"),
        (Some(_), Some(outcome), None) if outcome.status.retention() == Retention::NextSweep => {
            "its workbench goes with the next sweep".to_owned()
        }
        (Some(at), Some(outcome), None) => format!(
            "its workbench is kept for {} from {}, its end or the last output before it was ended by force; the first \
             sweep from {at} on removes it",
            HumanDuration(outcome.retain_from.age_secs_at(at).saturating_sub(1)),
            outcome.retain_from,
        ),
        (Some(at), None, None) => {
            format!("the first sweep from {at} on that finds nothing alive in it removes its workbench")
        }
        (None, Some(outcome), None) => format!("its retention counts from {}", outcome.retain_from),
        (None, None, None) if wait::is_over(run) => "its retention starts when its end is recorded".to_owned(),
        (None, None, None) => "no sweep removes it".to_owned(),
    }
}

fn words(manifest: &Manifest) -> Vec<String> {
    let command = &manifest.command;
    let all = std::iter::once(&command.command).chain(&command.args);
    all.take(SHOWN_WORDS).map(|word| quote(word, SHOWN_WORD_CHARS)).collect()
}

fn last_output(workbench: &Workbench, outcome: Option<&Outcome>) -> Option<UnixSeconds> {
    let (written, _) = workbench.log_state().filter(|(_, bytes)| *bytes > 0)?;
    // The note about a forced end is no output.
    let before = outcome.map_or_else(UnixSeconds::now, |outcome| outcome.retain_from);
    Some(written.min(before))
}

/// Lists the processes of an unfinished run, those that used most first; `None` where they are not known.
fn processes_of(home: &Home, assessment: &Assessment) -> Option<Vec<RunProcess>> {
    let found = match (&assessment.liveness, &assessment.manifest) {
        // They are seen only on its node.
        (Liveness::Owned, Ok(manifest)) if manifest.is_on_slurm() => return None,
        (Liveness::Queued(_) | Liveness::Elsewhere(_), _) => return None,
        (Liveness::Owned, Ok(manifest)) => {
            let written = RecordedProcesses::read(&assessment.entry, manifest, &Here::of(home)).unwrap_or_default();
            Scan::take().ok()?.members(&manifest.cookie, &written.belonging())
        }
        (Liveness::Unsupervised(left), _) => left.clone(),
        (Liveness::Dead, _) => Vec::new(),
        (Liveness::Owned, Err(_)) | (Liveness::Unknown(_) | Liveness::Judging(_), _) => return None,
    };
    let ids: Vec<_> = found.iter().map(|process| process.id).collect();
    Some(ordered(found, &usage(&ids).ok()?))
}

fn ordered(found: Vec<Process>, used: &HashMap<ProcessId, Usage>) -> Vec<RunProcess> {
    let show = |process: Process| {
        let Usage { cpu_ms, memory_bytes } = *used.get(&process.id)?;
        Some(RunProcess { pid: process.id.pid, name: process.name, cpu_ms, memory_bytes })
    };
    let mut shown: Vec<RunProcess> = found.into_iter().filter_map(show).collect();
    shown.sort_unstable_by(|a, b| b.cpu_ms.cmp(&a.cpu_ms).then(a.pid.cmp(&b.pid)));
    shown
}
