//! What an agent's own output says about a run, and what follows from it.

use super::entry::Workbench;
use super::id::RunId;
use super::log::{Log, format_of, stderr_end};
use super::on_disk::workbench_ids;
use super::record::AgentExit;
use super::recording::read_outcome;
use super::status::Status;
use crate::agent::output::{FinalEvent, OutputFormat, Reader, Report, Usage, is_usage_of_whole_session, needs_of_exit};
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::routine::zone;

/// How much of the end of stderr may say why an agent that printed nothing else ended.
const STDERR_BYTES: u64 = 4 * 1024;

/// Reads what the output of a run says, in a time that grows with its log; `None` where its agent prints text.
pub(crate) fn read_report(home: &Home, run: &RunId, exit: Option<AgentExit>) -> Option<Report> {
    let workbench = &Workbench::of(home, run);
    let format = format_of(workbench);
    if format == OutputFormat::Text {
        return None;
    }
    let mut report = read_stdout(workbench, format)
        .inspect_err(|error| tracing::warn!(%error, "what the agent reported is not known"))
        .unwrap_or_default();
    // Stderr says nothing but why an agent could not begin.
    if report.ended.is_none()
        && let Some(exit) = exit
        && let Some((needs, words)) = needs_of_exit(format, exit.code, &stderr_end(workbench, STDERR_BYTES))
    {
        report.needs = report.needs.or(Some(needs));
        report.last_words = report.last_words.or(Some(words));
    }
    // Before the final event it is that of this process alone.
    if is_usage_of_whole_session(format)
        && report.ended.is_some()
        && let (Some(session), Some(usage)) = (&report.session_id, &report.usage)
    {
        report.usage = Some(usage.since(&used_before(home, run, session)));
    }
    Some(report)
}

/// How many earlier runs may have begun the session that a run continued.
const MAX_EARLIER_RUNS: usize = 20;

/// Returns what earlier runs of the routine used of the session, as far as their workbenches are there.
fn used_before(home: &Home, run: &RunId, session: &str) -> Usage {
    let mut earlier = workbench_ids(home).unwrap_or_default();
    earlier.retain(|id| id.routine() == run.routine() && id.stamp() < run.stamp());
    earlier.sort_by_key(|id| std::cmp::Reverse(id.stamp()));
    let reports = earlier.iter().take(MAX_EARLIER_RUNS);
    let reports = reports.filter_map(|id| read_outcome(&Workbench::of(home, id), id).ok()?.report);
    let mut used = Usage::default();
    reports
        .filter(|report| report.session_id.as_deref() == Some(session))
        .filter_map(|report| report.usage)
        .for_each(|usage| used.add(&usage));
    used
}

fn read_stdout(workbench: &Workbench, format: OutputFormat) -> Result<Report, FileError> {
    let log = Log::open_raw(workbench)?;
    let mut reader = Reader::new(format, UnixSeconds::now(), &zone::of_machine().zone);
    let (mut offset, mut shown) = (0, String::new());
    loop {
        let (bytes, next) = log.raw(offset)?;
        if bytes.is_empty() {
            break;
        }
        if next - bytes.len() as u64 > offset {
            // What comes after a hole is not the rest of what came before it.
            reader.read(b"\n", &mut shown);
        }
        reader.read(&bytes, &mut shown);
        shown.clear();
        offset = next;
    }
    reader.finish(&mut shown);
    Ok(reader.report())
}

/// Decides how a run ended whose agent ended by itself: its final event counts before its exit status, because several agents exit
/// with 0 after an error.
pub(crate) fn status_by(exit: AgentExit, report: Option<&Report>) -> Status {
    match report.and_then(|report| report.ended) {
        Some(FinalEvent::Succeeded) => Status::Succeeded,
        Some(FinalEvent::Failed) => Status::Failed,
        None => exit.status(),
    }
}

/// Says why a run ended as it did whose agent ended by itself, in its own words if it had any; `None` if all went well.
pub(crate) fn reason_of(exit: AgentExit, left_behind: usize, report: Option<&Report>) -> Option<String> {
    let status = status_by(exit, report);
    let words = report.and_then(|report| report.last_words.as_deref());
    let denied = report.and_then(denied_in_words);
    let first = match (status, exit.code, words) {
        (Status::Succeeded, Some(0), _) => None,
        (Status::Succeeded, ..) => Some(format!("its agent finished its turn, then {}", exit.how())),
        (_, Some(0), None) => Some("its agent reported an error".to_owned()),
        (_, Some(0), Some(words)) => Some(format!("its agent reported: {words}")),
        (_, _, None) => Some(format!("its agent {}", exit.how())),
        (_, _, Some(words)) => Some(format!("its agent {}: {words}", exit.how())),
    };
    let left = (status == Status::Succeeded && left_behind > 0)
        .then(|| format!("its agent left processes behind, which were ended ({left_behind})"));
    // The agent's own words come last: what they say is the most.
    let all = if status == Status::Succeeded { [first, left, denied] } else { [denied, left, first] };
    all.into_iter().flatten().reduce(|one, other| format!("{one}; {other}"))
}

fn denied_in_words(report: &Report) -> Option<String> {
    let total: u64 = report.denied.iter().map(|denied| denied.count).sum();
    let tools: Vec<&str> = report.denied.iter().map(|denied| denied.tool.as_str()).collect();
    let (calls, were) = if total == 1 { ("call", "was") } else { ("calls", "were") };
    (total > 0).then(|| format!("{total} tool {calls} {were} denied: {}", tools.join(", ")))
}
