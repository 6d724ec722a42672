//! The line of a run.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::home::Home;
use crate::home::atomic_file::MAX_RECORD_BYTES;
use crate::routine::slug::Slug;
use crate::run::continuation::is_continued;
use crate::run::log::{Log, LogPart};
use crate::run::record::Outcome;
use crate::run::status::Status;
use crate::run::workbench::Workbench;

/// How much of a run's output its line keeps.
pub(super) const KEPT_OUTPUT_BYTES: usize = 2 * 1024;

/// A run's line as it is written. Its reader may have nothing else.
#[serde_with::skip_serializing_none]
#[derive(Serialize)]
pub(super) struct RunLine<'a> {
    kind: &'static str,
    routine: &'a Slug,
    #[serde(flatten)]
    outcome: &'a Outcome,
    duration_secs: Option<u64>,
    tail: Option<String>,
    tail_cut: Option<bool>,
    log_bytes: Option<u64>,
}

/// What the history says about a run; lines of older versions say less.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    pub outcome: Outcome,
    /// The end of its output as clean text, at most 2 KiB.
    pub tail: Option<String>,
    tail_cut: Option<bool>,
    /// How many bytes its log had; `None` in lines of version 0.1.
    pub log_bytes: Option<u64>,
}

impl Past {
    /// Whether it printed more before its tail. Older versions did not say: a text that was cut is as long as it may be, but
    /// for a character.
    pub fn tail_cut(&self) -> bool {
        let is_long = || self.tail.as_ref().is_some_and(|tail| tail.len() + 4 > KEPT_OUTPUT_BYTES);
        self.tail_cut.unwrap_or_else(is_long)
    }

    /// Reads a line. A status that a newer version wrote is shown as it is written, in the reason.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        Self::read(text).or_else(|_| Self::read(&without_newer_status(text)?)).ok()
    }

    fn read(text: &[u8]) -> serde_json::Result<Self> {
        /// What is beside the outcome's keys. A second look is faster than one that keeps what belongs to another.
        #[derive(Deserialize)]
        struct Beside {
            tail: Option<String>,
            tail_cut: Option<bool>,
            log_bytes: Option<u64>,
        }
        let Beside { tail, tail_cut, log_bytes } = serde_json::from_slice(text)?;
        Ok(Self { outcome: serde_json::from_slice(text)?, tail, tail_cut, log_bytes })
    }
}

fn without_newer_status(text: &[u8]) -> serde_json::Result<Vec<u8>> {
    let mut line: serde_json::Value = serde_json::from_slice(text)?;
    if let Some(status) = line["status"].as_str() {
        let newer = format!("it is '{status}', a status of a newer version; update moadim-mcp");
        line["status"] = serde_json::to_value(Status::Unknown)?;
        line["reason"] = newer.into();
    }
    serde_json::to_vec(&line)
}

impl<'a> RunLine<'a> {
    /// Makes the line of a run that ended, with the end of its output.
    pub(super) fn of(home: &Home, outcome: &'a Outcome) -> Self {
        let tail = tail(&workbench_of(home, outcome));
        Self {
            kind: "run",
            routine: outcome.id.routine(),
            outcome,
            duration_secs: outcome.duration_secs(),
            tail_cut: tail.as_ref().map(|tail| tail.more),
            log_bytes: tail.as_ref().map(|tail| tail.log_bytes),
            tail: tail.map(|tail| tail.text),
        }
    }
}

/// One that has lost its line may have been continued since.
fn workbench_of(home: &Home, outcome: &Outcome) -> Workbench {
    let workbench = outcome.workbench(home);
    if is_continued(home, &outcome.id) { workbench.of_previous(&outcome.id) } else { workbench }
}

/// Returns the end of a run's output; `None` where there is none, or it cannot be read: the run is recorded all the same.
fn tail(workbench: &Workbench) -> Option<LogPart> {
    let tail = Log::open(workbench).and_then(|log| log.tail(usize::MAX, KEPT_OUTPUT_BYTES)).ok()?;
    (!tail.text.is_empty()).then_some(tail)
}

/// In place of a duration where there is none.
pub(super) const NO_DURATION: u32 = u32::MAX;

/// What of a run's line is indexed.
pub(super) struct LineHead<'a> {
    pub(super) id: Cow<'a, str>,
    pub(super) status: Status,
    /// [`NO_DURATION`] where the agent never started.
    pub(super) duration_secs: u32,
}

impl<'a> LineHead<'a> {
    /// Reads a line; `None` if it is not about a run.
    ///
    /// # Errors
    /// The line is damaged.
    pub(super) fn parse(text: &'a [u8]) -> serde_json::Result<Option<Self>> {
        // What every outcome has must be there, and is skipped: reading it would take several times as long.
        #[derive(Deserialize)]
        #[allow(dead_code, reason = "only their presence counts")]
        struct OfRun<'a> {
            #[serde(default, borrow)]
            kind: Option<Cow<'a, str>>,
            #[serde(borrow)]
            id: Cow<'a, str>,
            #[serde(borrow)]
            status: Cow<'a, str>,
            duration_secs: Option<u64>,
            version: IgnoredAny,
            agent: IgnoredAny,
            session_host: IgnoredAny,
            triggered_at: IgnoredAny,
            finished_at: IgnoredAny,
            retain_from: IgnoredAny,
            cookie: IgnoredAny,
        }
        #[derive(Deserialize)]
        struct OfAnyKind<'a> {
            #[serde(borrow)]
            kind: Cow<'a, str>,
        }
        match serde_json::from_slice::<OfRun<'a>>(text) {
            Ok(OfRun { kind, id, status, duration_secs, .. }) if kind.as_ref().is_none_or(|kind| kind == "run") => {
                // Any other status is a newer program's.
                let status = serde_json::from_value(status.into()).unwrap_or(Status::Unknown);
                let duration_secs = duration_secs.and_then(|secs| secs.try_into().ok()).unwrap_or(NO_DURATION);
                Ok(Some(Self { id, status, duration_secs }))
            }
            Ok(_) => Ok(None),
            Err(error) => match serde_json::from_slice::<OfAnyKind<'_>>(text) {
                Ok(line) if line.kind != "run" => Ok(None),
                _ => Err(error),
            },
        }
    }
}

/// Reads the line at an offset, from any thread: the file has one place for all that seek in it.
pub(super) fn line_at(file: &File, offset: u64) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    BufReader::new(FileAt { file, offset }).take(MAX_RECORD_BYTES).read_until(b'\n', &mut text)?;
    Ok(text)
}

/// A file that is read from a place of its own.
struct FileAt<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for FileAt<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
