//! Runs as tasks (`io.modelcontextprotocol/tasks`): a task's id is its run's, and its state is read from the home each time,
//! so that it outlives this server.

use rmcp::ErrorData;
use rmcp::model::{DetailedTask, JsonObject, Task, TaskPayload, TaskStatus};
use serde_json::{Value, json};

use super::tool::result_of;
use crate::clock::UnixSeconds;
use crate::query::view::RunView;
use crate::query::{listing, wait};
use crate::run::context::App;
use crate::run::end::{EndError, Order, end_run};
use crate::run::id::RunId;
use crate::run::record::EndCause;
use crate::run::status::{Status, TaskState};

/// How long a client should wait between two looks.
const POLL_INTERVAL_MS: u64 = 1_000;

/// Looks at a run as a task.
///
/// # Errors
/// There is no such run, or it cannot be read.
pub(super) fn look(app: &App, id: &str) -> Result<DetailedTask, ErrorData> {
    let run = find(app, id)?;
    Ok(as_task(&run, UnixSeconds::now()))
}

/// Asks for the end of a run, and returns at once; how it goes is seen by looking.
///
/// # Errors
/// There is no such run, or the system has no threads left.
pub(super) fn cancel(app: &App, id: &str) -> Result<(), ErrorData> {
    let run = find(app, id)?;
    if wait::is_over(&run) {
        return Ok(());
    }
    let context = app.context_for_looking();
    let order =
        Order { cause: EndCause::Stopped, reason: "its task was cancelled".to_owned(), by: "tasks/cancel".to_owned() };
    let end = move || {
        if let Err(error) = end_run(&context, &run.id, &order) {
            tracing::warn!(run = %run.id, %error, "cannot end a cancelled run");
        }
    };
    std::thread::Builder::new().name("cancel".into()).spawn(end).map(drop).map_err(|error| {
        ErrorData::internal_error(format!("cannot end the run now: {error}; try again, or call stop_run"), None)
    })
}

fn find(app: &App, id: &str) -> Result<RunView, ErrorData> {
    let unknown = |text: String| ErrorData::invalid_params(text, Some(json!({ "taskId": id })));
    let run: RunId = id.parse().map_err(|error| unknown(format!("there is no such task: {error}")))?;
    listing::find(&app.context_for_looking(), &run).map_err(|error| match error {
        EndError::NotFound(_) => unknown(format!("there is no such task: {error}")),
        other => ErrorData::internal_error(other.to_string(), None),
    })
}

fn as_task(run: &RunView, now: UnixSeconds) -> DetailedTask {
    let ended = run.own_status();
    let payload = match run.finished_at {
        None => TaskPayload::Working,
        Some(_) if ended.task() == TaskState::Cancelled => TaskPayload::Cancelled,
        Some(_) => TaskPayload::Completed { result: result(run) },
    };
    let changed_at = run.finished_at.unwrap_or(now);
    let task = Task::new(run.id.to_string(), TaskStatus::Working, run.triggered_at.to_string(), changed_at.to_string())
        .with_status_message(in_words(run, ended))
        .with_poll_interval_ms(POLL_INTERVAL_MS);
    DetailedTask::new(task, payload)
}

fn in_words(run: &RunView, ended: Status) -> String {
    let reason = run.status_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    match run.finished_at {
        None => format!("{}{reason}; its log has {} bytes", run.status, run.log_bytes),
        Some(_) => format!("{ended}{reason}"),
    }
}

/// Returns what the call would have answered: the answers of `wait_run` and of a waiting `trigger_routine`
/// have the same keys.
fn result(run: &RunView) -> JsonObject {
    let result = result_of(&json!({ "finished": true, "run": run }));
    match result.map(serde_json::to_value) {
        Ok(Ok(Value::Object(result))) => result,
        _ => JsonObject::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::record::Outcome;

    fn task(run: &RunView) -> Value {
        serde_json::to_value(as_task(run, UnixSeconds(100))).unwrap()
    }

    #[test]
    fn a_run_is_a_task_in_every_state() {
        let (_dir, app) = App::example();
        let context = app.context().unwrap();
        let ended = |status| RunView::of_reaped(&context, Outcome::example("a-9", status));
        for status in [Status::Succeeded, Status::Failed, Status::TimedOut, Status::Lost] {
            let seen = task(&ended(status));
            assert_eq!((&seen["taskId"], &seen["status"]), (&json!("a-9"), &json!("completed")), "{seen}");
            let answer = &seen["result"]["structuredContent"];
            assert_eq!((&answer["finished"], &answer["run"]["outcome"]), (&json!(true), &json!(status)), "{seen}");
            assert_eq!(seen["result"]["isError"], json!(false), "how a run ended is no error of the call");
        }
        let seen = task(&ended(Status::Stopped));
        assert_eq!((&seen["status"], seen.get("result")), (&json!("cancelled"), None), "{seen}");
        let running = RunView { finished_at: None, status: Status::Running, ..ended(Status::Succeeded) };
        let seen = task(&running);
        assert_eq!((&seen["status"], seen.get("result")), (&json!("working"), None), "{seen}");
        assert_eq!(seen["lastUpdatedAt"], "1970-01-01T00:01:40Z");
        assert_eq!(seen["ttlMs"], Value::Null, "the key is required");
    }

    #[test]
    fn what_is_no_run_is_no_task() {
        let (_dir, app) = App::example();
        for id in ["", "nonsense", "../../etc-1", "missing-7"] {
            let error = look(&app, id).unwrap_err();
            assert_eq!(error.data, Some(json!({ "taskId": id })), "{error}");
            assert!(cancel(&app, id).is_err());
        }
    }
}
