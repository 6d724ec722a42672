//! What an agent's own output says about a run, and what follows from it.

use super::context::Context;
use super::id::RunId;
use super::limit;
use super::log::{Log, stderr_end};
use super::on_disk::ids_with_workbench;
use super::outcome_file::read_outcome;
use super::question::Question;
use super::record::{AgentExit, Manifest};
use super::status::Status;
use super::workbench::Workbench;
use crate::agent::output::{
    FinalEvent, OutputFormat, Reader, Summary, Usage, is_usage_of_whole_session, needs_of_exit,
};
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::options::{MAX_BUDGET_USD, Options};
use crate::routine::zone;

/// How much of the end of stderr may say why an agent that printed nothing else ended.
const STDERR_BYTES: u64 = 4 * 1024;

/// Reads what the output of a run says, in a time that grows with its log; `None` where its agent prints text.
pub(crate) fn read_summary(context: &Context, manifest: &Manifest, source: Source) -> Option<Summary> {
    let format = manifest.command.output;
    if format == OutputFormat::Text {
        return None;
    }
    let workbench = &manifest.workbench(&context.home);
    let now = UnixSeconds::now();
    let (log, exit, most_bytes, said_at) = match source {
        Source::Ended(log, exit) => (Ok(log), exit, u64::MAX, now),
        // It may be read long after.
        Source::Abandoned => (Log::open_raw(workbench), None, u64::MAX, workbench.last_output_or(now)),
        Source::Live => (Log::open_raw(workbench), None, MAX_LIVE_BYTES, now),
    };
    let mut summary = log
        .and_then(|log| read_stdout(&log, format, most_bytes, said_at))
        .inspect_err(|error| tracing::warn!(%error, "what the agent reported is not known"))
        .unwrap_or_default();
    // Stderr says nothing but why an agent could not begin.
    if summary.ended.is_none()
        && let Some(exit) = exit
        && let Some((needs, words)) = needs_of_exit(format, exit.code, &stderr_end(workbench, STDERR_BYTES))
    {
        summary.needs = summary.needs.or(Some(needs));
        summary.last_words = summary.last_words.or(Some(words));
    }
    // Before the final event it is that of this process alone.
    if is_usage_of_whole_session(format)
        && summary.ended.is_some()
        && let (Some(session), Some(usage)) = (&summary.session_id, &summary.usage)
    {
        summary.usage = Some(usage.since(&used_before(context, manifest, session)));
    }
    Some(summary)
}

/// How many earlier runs may have begun the session that a run continued.
const MAX_EARLIER_RUNS: usize = 20;

/// Returns what earlier runs of the routine used of the session: those that this one continues, else those whose workbenches are there.
fn used_before(context: &Context, manifest: &Manifest, session: &str) -> Usage {
    let summaries = match &manifest.continues {
        Some(predecessor) => summaries_of_chain(context, predecessor.clone()),
        None => summaries_of_earlier_runs(&context.home, &manifest.id),
    };
    let mut used = Usage::default();
    summaries
        .into_iter()
        .filter(|summary| summary.session_id.as_deref() == Some(session))
        .filter_map(|summary| summary.usage)
        .for_each(|usage| used.add(&usage));
    used
}

/// Their agents may have changed what lies in the workbench of all of them, so the history tells.
fn summaries_of_chain(context: &Context, newest: RunId) -> Vec<Summary> {
    let mut summaries = Vec::new();
    let mut next = Some(newest);
    while let Some(run) = next {
        let past = context.history.find(&context.home, &run).ok().flatten();
        let outcome = past.map(|past| past.outcome);
        // Backwards in time, so that it ends.
        next = outcome.as_ref().and_then(|outcome| outcome.continues.clone()).filter(|earlier| *earlier < run);
        summaries.extend(outcome.and_then(|outcome| outcome.output));
    }
    summaries
}

fn summaries_of_earlier_runs(home: &Home, run: &RunId) -> Vec<Summary> {
    let mut earlier = ids_with_workbench(home).unwrap_or_default();
    earlier.retain(|id| id.routine() == run.routine() && id.stamp() < run.stamp());
    earlier.sort_unstable_by_key(|id| std::cmp::Reverse(id.stamp()));
    let newest = earlier.iter().take(MAX_EARLIER_RUNS);
    newest.filter_map(|id| read_outcome(&Workbench::of(home, id), id).ok()?.output).collect()
}

/// Where what an agent printed is read from.
pub(crate) enum Source {
    /// What its supervisor kept open, whatever became of its name; how its agent ended, if it did by itself.
    Ended(Log, Option<AgentExit>),
    /// The log of a run without a supervisor.
    Abandoned,
    /// That of a run that goes on, or is merely shown; of a large one only the end.
    Live,
}

/// How much of a live run's log is read each time somebody looks.
const MAX_LIVE_BYTES: u64 = 8 * 1024 * 1024;

fn read_stdout(log: &Log, format: OutputFormat, most_bytes: u64, said_at: UnixSeconds) -> Result<Summary, FileError> {
    let mut reader = Reader::new(format, said_at, &zone::of_machine().zone);
    let (mut offset, mut shown) = (log.size.saturating_sub(most_bytes), String::new());
    let mut within_line = offset > 0;
    loop {
        let (bytes, next) = log.raw(offset)?;
        if bytes.is_empty() {
            break;
        }
        if next - bytes.len() as u64 > offset {
            // What comes after a hole is not the rest of what came before it.
            reader.read(b"\n", &mut shown);
            within_line = true;
        }
        let mut bytes = bytes.as_slice();
        if within_line {
            let newline = bytes.iter().position(|byte| *byte == b'\n');
            within_line = newline.is_none();
            bytes = newline.map_or(&[], |newline| &bytes[newline + 1..]);
        }
        reader.read(bytes, &mut shown);
        shown.clear();
        offset = next;
    }
    reader.finish(&mut shown);
    Ok(reader.summary())
}

/// Decides how a run ended whose agent ended by itself: its final event counts before its exit status, because several agents exit
/// with 0 after an error, and some after TERM. An agent that prints events and did not say how it ended did not succeed. One that was
/// ended by a signal may have been about to withdraw its question.
pub(crate) fn status_by(exit: AgentExit, summary: Option<&Summary>, asks: bool) -> Status {
    if limit::that_ended(exit, summary).is_some() {
        return Status::Limited;
    }
    if asks && exit.code.is_some() {
        return Status::Asked;
    }
    match summary.map(|summary| summary.ended) {
        Some(Some(FinalEvent::Succeeded)) => Status::Succeeded,
        Some(_) => Status::Failed,
        None => exit.status(),
    }
}

/// Says why a run ended as it did whose agent ended by itself, in its own words if it had any; `None` if all went well. Its
/// `options` are those that the agent was started with; what contradicts a good end is said in `disagreements`.
pub(crate) fn reason_of(
    exit: AgentExit,
    left_behind: usize,
    summary: Option<&Summary>,
    question: Option<&Question>,
    options: &Options,
    disagreements: Vec<String>,
) -> Option<String> {
    let status = status_by(exit, summary, question.is_some());
    if let Some(question) = question.filter(|_| status == Status::Asked) {
        return Some(question.in_words(summary.and_then(|summary| summary.last_words.as_deref())));
    }
    let words = summary.and_then(|summary| summary.last_words.as_deref());
    let denied = summary.and_then(denied_in_words);
    if let Some(summary) = summary.filter(|summary| summary.over_budget && status == Status::Failed) {
        let over = over_budget_in_words(summary, options);
        return Some(denied.map_or(over.clone(), |denied| format!("{over}; {denied}")));
    }
    let first = match (status, exit.code, words) {
        (Status::Limited, ..) => limit::that_ended(exit, summary).map(limit::in_words),
        (Status::Succeeded, Some(0), _) => None,
        (Status::Succeeded, ..) => Some(format!("its agent finished its turn, then {}", exit.how())),
        (_, Some(0), None) if summary.is_some_and(|summary| summary.ended.is_none()) => {
            Some("its agent exited with status 0 before it said how it ended".to_owned())
        }
        (_, Some(0), None) => Some("its agent reported an error".to_owned()),
        (_, Some(0), Some(words)) => Some(format!("its agent reported: {words}")),
        (_, _, None) => Some(format!("its agent {}", exit.how())),
        (_, _, Some(words)) => Some(format!("its agent {}: {words}", exit.how())),
    };
    let left = (status == Status::Succeeded && left_behind > 0)
        .then(|| format!("its agent left processes behind, which were ended ({left_behind})"));
    // The agent's own words come last: what they say is the most.
    let all: Vec<String> = match status {
        Status::Succeeded => first.into_iter().chain(disagreements).chain(left).collect(),
        _ => denied.into_iter().chain(first).collect(),
    };
    all.into_iter().reduce(|one, other| format!("{one}; {other}"))
}

/// Names the cost and the ceiling; where the ceiling is no option of the agent, its own words do.
fn over_budget_in_words(summary: &Summary, options: &Options) -> String {
    let cost = summary.usage.as_ref().and_then(|usage| usage.cost_usd);
    let cost = cost.map_or_else(|| "what it cost is unknown".to_owned(), |cost| format!("it cost {cost}"));
    match (options.get(MAX_BUDGET_USD), &summary.last_words) {
        (Some(ceiling), _) => format!("over budget: {cost}, and {MAX_BUDGET_USD} is {ceiling}"),
        (None, Some(words)) => format!("over budget: {cost}; its agent reported: {words}"),
        (None, None) => format!("over budget: {cost}"),
    }
}

/// Says which tool calls were denied, if any were.
pub(super) fn denied_in_words(summary: &Summary) -> Option<String> {
    let total: u64 = summary.denied.iter().map(|denied| denied.count).sum();
    let tools: Vec<&str> = summary.denied.iter().map(|denied| denied.tool.as_str()).collect();
    let (calls, were) = if total == 1 { ("call", "was") } else { ("calls", "were") };
    (total > 0).then(|| format!("{total} tool {calls} {were} denied: {}", tools.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::MicroDollars;
    use crate::options::OptionValue;

    #[test]
    fn a_run_over_its_budget_says_so_first_with_cost_and_ceiling() {
        let usage = Usage { cost_usd: Some(MicroDollars(520_000)), ..Usage::default() };
        let over = Summary {
            usage: Some(usage),
            ended: Some(FinalEvent::Failed),
            last_words: Some("Reached maximum budget ($0.5)".into()),
            over_budget: true,
            ..Summary::default()
        };
        let exit = AgentExit { code: Some(1), signal: None };
        let options: Options = [(MAX_BUDGET_USD.to_owned(), OptionValue("0.5".into()))].into();
        let reason = |summary: &Summary, options: &Options| {
            reason_of(exit, 0, Some(summary), None, options, Vec::new()).unwrap()
        };
        assert_eq!(reason(&over, &options), "over budget: it cost $0.52, and max_budget_usd is 0.5");
        assert_eq!(
            reason(&over, &Options::new()),
            "over budget: it cost $0.52; its agent reported: Reached maximum budget ($0.5)"
        );
        let unknown = Summary { usage: None, ..over.clone() };
        assert_eq!(reason(&unknown, &options), "over budget: what it cost is unknown, and max_budget_usd is 0.5");
        let within = Summary { over_budget: false, ..over };
        assert_eq!(reason(&within, &options), "its agent exited with status 1: Reached maximum budget ($0.5)");
    }
}
