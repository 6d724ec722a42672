//! `GET /metrics`: figures for Prometheus, in its text format.
//!
//! Runs are counted as the history is read, so that a scrape costs the same however long the history is. Disks are measured once a
//! minute at most.

use std::fmt::{Display, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};

use super::ApiState;
use super::refusal::Refusal;
use crate::clock::UnixSeconds;
use crate::home::atomic_file::FileError;
use crate::janitor::stores::{self, Store};
use crate::janitor::{heartbeat, sweep_lock};
use crate::query::listing::LiveCounts;
use crate::routine::known::Look;
use crate::run::context::{App, Context};

/// The disk as it was last measured.
#[derive(Default)]
pub(super) struct Disk(Mutex<Option<(Instant, Vec<Store>)>>);

/// How long a measurement is used.
const MEASURED_FOR: Duration = Duration::from_secs(60);

/// How long measuring may take.
const MEASURING_TIMEOUT: Duration = Duration::from_secs(2);

impl Disk {
    fn stores(&self, context: &Context) -> Vec<Store> {
        let mut measured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, stores)) = measured.as_ref().filter(|(at, _)| at.elapsed() < MEASURED_FOR) {
            return stores.clone();
        }
        let stores = stores::measure(context, None, Instant::now() + MEASURING_TIMEOUT);
        *measured = Some((Instant::now(), stores.clone()));
        stores
    }
}

pub(super) async fn answer(State(state): State<Arc<ApiState>>) -> Result<Response, Refusal> {
    let for_thread = Arc::clone(&state);
    let text = state.calls.run("the metrics", move |_| read(&for_thread.app, &for_thread.disk)).await?;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(CONTENT_TYPE, kind)], text.map_err(Refusal::failed)?).into_response())
}

/// Reads the figures, and writes them as text.
fn read(app: &App, disk: &Disk) -> Result<String, FileError> {
    let context = app.context_for_looking();
    let home = &context.home;
    let routines = context.routines.refresh(home, Look::Share)?;
    let waiting = routines.summaries.iter().filter(|one| one.plan().is_ok_and(|plan| plan.waiting.is_some())).count();
    let LiveCounts { running, queued, unknown } = LiveCounts::read(&context)?;
    let stores = disk.stores(&context);
    let lines = context.history.read(home)?;
    let tally = lines.tally();
    let mut text = Exposition::default();
    text.family("moadim_build_info", Kind::Gauge, "The version of moadim-mcp; always 1.");
    text.sample("", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    text.family("moadim_runs_total", Kind::Counter, "Runs that ended, by routine and by how they ended.");
    for (routine, status, count) in tally.ended() {
        text.sample("", &[("routine", routine.as_str()), ("status", &status.to_string())], count);
    }
    let help = "How long runs took from their agent's start to their end, by routine.";
    text.family("moadim_run_duration_seconds", Kind::Summary, help);
    for (routine, count, secs) in tally.durations() {
        text.sample("_sum", &[("routine", routine.as_str())], secs);
        text.sample("_count", &[("routine", routine.as_str())], count);
    }
    drop(lines);
    text.family("moadim_runs_live", Kind::Gauge, "Runs that are being prepared or whose agent is at work.");
    text.sample("", &[], running);
    text.family("moadim_runs_queued", Kind::Gauge, "Runs that wait in Slurm's queue.");
    text.sample("", &[], queued);
    text.family("moadim_runs_unknown", Kind::Gauge, "Runs that may or may not be over.");
    text.sample("", &[], unknown);
    text.family("moadim_routines", Kind::Gauge, "Routines.");
    text.sample("", &[], routines.summaries.len());
    text.family(
        "moadim_routines_waiting",
        Kind::Gauge,
        "Routines with a waiting fire, such as one that waits for another run to end.",
    );
    text.sample("", &[], waiting);
    text.family("moadim_store_bytes", Kind::Gauge, "Disk use of the home, by store.");
    for store in &stores {
        text.sample("", &[("store", store.name)], store.bytes);
    }
    text.family("moadim_store_bytes_complete", Kind::Gauge, "1, or 0 if measuring took too long and there is more.");
    for store in &stores {
        text.sample("", &[("store", store.name)], u8::from(store.bytes_complete));
    }
    text.family("moadim_store_max_bytes", Kind::Gauge, "Limit of a store, if it has one.");
    for store in &stores {
        if let Some(max) = store.max_bytes {
            text.sample("", &[("store", store.name)], max);
        }
    }
    text.time(
        "moadim_last_sweep_timestamp_seconds",
        "When a process of the home last began a sweep.",
        sweep_lock::last_sweep(home),
    );
    let help = "When a scheduler of the home last noted that it is at work, once a minute.";
    text.time("moadim_last_heartbeat_timestamp_seconds", help, heartbeat::last_beat(home));
    Ok(text.text)
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Summary,
}

/// The text, one family of metrics after another.
#[derive(Default)]
struct Exposition {
    text: String,
    /// The name of the family that was begun last.
    family: &'static str,
}

impl Exposition {
    fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Summary => "summary",
        };
        self.family = name;
        // Writing to a text never fails.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// Adds a sample to the family that was begun last.
    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let Self { text, family } = self;
        text.push_str(family);
        text.push_str(suffix);
        for (at, (label, value)) in labels.iter().enumerate() {
            text.push(if at == 0 { '{' } else { ',' });
            let _ = write!(text, "{label}=\"{}\"", Escaped(value));
        }
        if !labels.is_empty() {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }

    /// Adds a moment, if it is known.
    fn time(&mut self, name: &'static str, help: &str, at: Option<UnixSeconds>) {
        if let Some(at) = at {
            self.family(name, Kind::Gauge, help);
            self.sample("", &[], at.0);
        }
    }
}

/// A label's value as the format wants it.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::history::{self, Known};
    use crate::run::record::Outcome;
    use crate::run::status::Status;

    #[test]
    fn labels_are_escaped() {
        let mut text = Exposition::default();
        text.family("a_total", Kind::Counter, "A.");
        text.sample("", &[("one", "a\"b\\c\nd"), ("two", "é")], 7);
        text.sample("", &[], 8);
        let expected =
            "# HELP a_total A.\n# TYPE a_total counter\na_total{one=\"a\\\"b\\\\c\\nd\",two=\"é\"} 7\na_total 8\n";
        assert_eq!(text.text, expected);
    }

    proptest::proptest! {
        #[test]
        fn a_label_of_any_text_stays_on_its_line_and_is_read_back(value: String) {
            let mut text = Exposition::default();
            text.family("a", Kind::Gauge, "A.");
            text.sample("", &[("of", &value)], 7);
            let line = text.text.strip_prefix("# HELP a A.\n# TYPE a gauge\na{of=\"").unwrap();
            let escaped = line.strip_suffix("\"} 7\n").unwrap();
            let (mut read, mut chars) = (String::new(), escaped.chars());
            while let Some(c) = chars.next() {
                assert!(c != '"' && c != '\n', "{escaped}");
                read.push(match c {
                    '\\' => match chars.next().unwrap() {
                        'n' => '\n',
                        escaped => escaped,
                    },
                    plain => plain,
                });
            }
            assert_eq!(read, value);
        }
    }

    #[test]
    fn runs_are_counted_by_routine_and_status() {
        let (_dir, app) = App::example();
        let context = app.context_for_looking();
        for (run, status) in [("a-1", Status::Succeeded), ("a-2", Status::Failed), ("a-3", Status::Succeeded)] {
            history::append(&app.home, &context.config, &Outcome::example(run, status), Known::New).unwrap();
        }
        let disk = Disk::default();
        let text = read(&app, &disk).unwrap();
        for line in [
            "moadim_runs_total{routine=\"a\",status=\"succeeded\"} 2",
            "moadim_runs_total{routine=\"a\",status=\"failed\"} 1",
            "moadim_run_duration_seconds_sum{routine=\"a\"} 3",
            "moadim_run_duration_seconds_count{routine=\"a\"} 3",
            "moadim_runs_live 0",
            "moadim_runs_queued 0",
            "moadim_routines_waiting 0",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} in:\n{text}");
        }
        assert!(text.contains("moadim_store_bytes{store=\"history\"} "), "{text}");
        let at = disk.0.lock().unwrap().as_ref().unwrap().0;
        read(&app, &disk).unwrap();
        assert_eq!(disk.0.lock().unwrap().as_ref().unwrap().0, at, "disks are not measured at each scrape");
    }
}
