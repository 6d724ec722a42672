//! The runs that are not over, and runs in an unknown state.

use serde::Serialize;

use super::content::{Content, Row};
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::query::listing::Unfinished;
use crate::query::view::RunView;
use crate::routine::slug::Slug;
use crate::run::id::RunId;
use crate::run::record::SlurmJob;
use crate::run::report::read_report;
use crate::run::status::Status;
use crate::run::workbench::Workbench;

#[serde_with::skip_serializing_none]
#[derive(Serialize)]
struct LiveRow<'a> {
    id: &'a RunId,
    routine: &'a Slug,
    status: Status,
    status_reason: Option<&'a str>,
    triggered_at: UnixSeconds,
    started_at: Option<UnixSeconds>,
    max_runtime_secs: Option<u64>,
    bound_from: Option<UnixSeconds>,
    last_output_at: Option<UnixSeconds>,
    max_silence_secs: Option<u64>,
    job: Option<&'a SlurmJob>,
    attach_command: Option<&'a str>,
    pinned: Option<bool>,
    headline: Option<String>,
}

/// A run that is not over, with its bounds where it has an entry.
#[derive(Debug, Clone)]
pub(super) struct LiveRun {
    pub(super) run: RunView,
    bounds: Option<Bounds>,
    /// What its workbench shows, if that was read once for all looks.
    shown: Option<Shown>,
}

/// What a run is held to.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    max_runtime_secs: u64,
    from: Option<UnixSeconds>,
    max_silence_secs: Option<u64>,
}

/// What a workbench shows of its run.
#[derive(Debug, Clone)]
struct Shown {
    last_output_at: Option<UnixSeconds>,
    headline: Option<String>,
}

impl Shown {
    fn of(home: &Home, run: &RunView) -> Self {
        let workbench = Workbench::of(home, &run.id);
        Self {
            last_output_at: (run.log_bytes > 0).then(|| workbench.last_output_or(run.triggered_at)),
            headline: read_report(&workbench).map(|report| report.headline),
        }
    }
}

impl From<Unfinished> for LiveRun {
    fn from(unfinished: Unfinished) -> Self {
        let Unfinished { run, max_runtime_secs, bound_from: from, max_silence_secs } = unfinished;
        Self { run, bounds: Some(Bounds { max_runtime_secs, from, max_silence_secs }), shown: None }
    }
}

impl LiveRun {
    /// Makes one of a workbench without an entry of which nothing is known. It is read now: we do not know that anything writes it.
    pub(super) fn of_stranger(home: &Home, run: RunView) -> Self {
        let shown = Some(Shown::of(home, &run));
        Self { run, bounds: None, shown }
    }
}

/// # Errors
/// A row cannot be written as JSON.
pub(super) fn content(home: &Home, live: &[LiveRun]) -> serde_json::Result<Content> {
    let row = |LiveRun { run, bounds, shown }: &LiveRun| {
        let Shown { last_output_at, headline } = shown.clone().unwrap_or_else(|| Shown::of(home, run));
        let row = LiveRow {
            id: &run.id,
            routine: run.id.routine(),
            status: run.status,
            status_reason: run.status_reason.as_deref(),
            triggered_at: run.triggered_at,
            started_at: run.started_at,
            max_runtime_secs: bounds.map(|bounds| bounds.max_runtime_secs),
            bound_from: bounds.and_then(|bounds| bounds.from),
            last_output_at,
            max_silence_secs: bounds.and_then(|bounds| bounds.max_silence_secs),
            job: run.job.as_ref(),
            attach_command: run.attach_command.as_deref(),
            pinned: run.pinned.then_some(true),
            headline,
        };
        Row::of(run.id.to_string(), &row)
    };
    Ok(Content::of(live.iter().map(row).collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::context::App;
    use crate::run::record::Outcome;
    use serde_json::json;

    #[test]
    fn a_run_on_a_cluster_shows_its_job_and_where_its_bound_counts_from() {
        let (_dir, app) = App::example();
        let context = app.context_for_looking();
        let job = SlurmJob { id: "7".into(), node: Some("n1".into()), partition: None, state: None };
        let live = |bound_from| {
            let ended = RunView::of_reaped(&context, Outcome::example("a-1", Status::Succeeded));
            let run = RunView { job: Some(job.clone()), ..ended };
            LiveRun::from(Unfinished { run, max_runtime_secs: 60, bound_from, max_silence_secs: None })
        };
        let row = |live: &LiveRun| {
            let content = content(&app.home, std::slice::from_ref(live)).unwrap();
            serde_json::from_str::<serde_json::Value>(content.rows()[0].json.get()).unwrap()
        };
        let queued = row(&live(None));
        assert_eq!((&queued["job"], &queued["max_runtime_secs"]), (&json!({"id": "7", "node": "n1"}), &json!(60)));
        assert!(queued.get("bound_from").is_none(), "{queued}");
        assert_eq!(row(&live(Some(UnixSeconds(90))))["bound_from"], "1970-01-01T00:01:30Z");
    }
}
