//! Running a person's command beside the agent: without the agent's secrets, until it ends or takes too long, and to its last process.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::exec::Part;
use super::setup_step::{NotPrepared, in_one_line};
use super::supervision::Supervisor;
use crate::agent::output::{OutputFormat, plain};
use crate::clock::HumanDuration;
use crate::home::atomic_file;
use crate::quote::{end, quote};
use crate::run::entry::PRECHECK_OUTPUT;
use crate::run::record::{AgentExit, EndCause};

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CheckEnd {
    Exited(AgentExit),
    /// It was ended after this time.
    TookTooLong(Duration),
    /// It was not started, and why.
    NotStarted(String),
}

impl CheckEnd {
    /// Returns its exit status, if it had one.
    pub(super) fn code(&self) -> Option<i32> {
        match self {
            Self::Exited(exit) => exit.code,
            Self::TookTooLong(_) | Self::NotStarted(_) => None,
        }
    }

    /// Says how it ended, as what follows its name.
    pub(super) fn how(&self) -> String {
        match self {
            Self::Exited(exit) => exit.how(),
            Self::TookTooLong(time) => format!("took more than {}", HumanDuration(time.as_secs())),
            Self::NotStarted(reason) => format!("could not be started: {reason}"),
        }
    }
}

impl Supervisor {
    /// Runs a check, and ends all that it leaves behind.
    ///
    /// # Errors
    /// The run has to end first.
    pub(super) fn run_check(&mut self, part: Part, at_most: Duration) -> Result<CheckEnd, NotPrepared> {
        // How the agent ended is known by now.
        self.children.forget();
        self.child_or_end()?;
        let end = match self.start_part(part) {
            Ok(_) => {
                // What the agent took away has been made once more.
                self.log_cap.watch_again(&self.workbench(), self.context.config.max_log_bytes);
                if part == Part::Precheck {
                    self.log_cap.watch_also(&self.entry.file(PRECHECK_OUTPUT));
                }
                let exit = self.await_child_for(at_most)?;
                exit.map_or(CheckEnd::TookTooLong(at_most), CheckEnd::Exited)
            }
            Err(NotPrepared::End(EndCause::LaunchFailed, reason)) => CheckEnd::NotStarted(reason),
            Err(not) => return Err(not),
        };
        self.children.forget();
        if self.end_processes() {
            return Ok(end);
        }
        let check = if part == Part::Precheck { "precheck" } else { "verification" };
        Err(NotPrepared::End(EndCause::Stopped, format!("its {check} left processes that could not be killed")))
    }

    /// Marks the end of the log that a check's messages go to.
    pub(super) fn mark_messages(&self) -> Mark {
        let workbench = self.workbench();
        let is_text = self.manifest.command.output == OutputFormat::Text;
        Mark::at_end_of(if is_text { workbench.log() } else { workbench.stderr_log() })
    }
}

/// A place in a file, behind which a check writes.
pub(super) struct Mark {
    path: PathBuf,
    bytes: u64,
}

impl Mark {
    fn at_end_of(path: PathBuf) -> Self {
        let bytes = path.symlink_metadata().map_or(0, |metadata| metadata.len());
        Self { path, bytes }
    }

    /// Returns the last words behind it, in one line; empty if there are none.
    pub(super) fn last_words(&self) -> String {
        last_words(&self.path, self.bytes)
    }
}

/// Returns the last words of a file behind its first `from` bytes, in one line; empty if there are none.
pub(super) fn last_words(path: &Path, from: u64) -> String {
    const READ_BYTES: u64 = 2 * 1024;
    const SHOWN_LINES: usize = 5;
    const SHOWN_CHARS: usize = 600;
    let read = || {
        let file = atomic_file::open_regular(path).ok()?;
        let size = file.metadata().ok()?.len();
        // It may have been emptied meanwhile.
        let from = if from > size { 0 } else { from };
        let start = from.max(size.saturating_sub(READ_BYTES));
        let mut bytes = vec![0; usize::try_from(size - start).ok()?];
        let count = file.read_at(&mut bytes, start).ok()?;
        bytes.truncate(count);
        Some(plain(&String::from_utf8_lossy(&bytes)))
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = in_one_line(&lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n"));
    quote(end(last.trim(), SHOWN_CHARS), SHOWN_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_those_behind_the_mark() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert_eq!(last_words(&path, 0), "", "there is no file");
        std::fs::write(&path, "the agent's own\n").unwrap();
        let mark = Mark::at_end_of(path.clone());
        assert_eq!(mark.last_words(), "");
        let lines: String = (1..=9).map(|n| format!("\u{1b}[31mline {n}\u{1b}[0m\n\n")).collect();
        std::fs::write(&path, format!("the agent's own\n{lines}")).unwrap();
        assert_eq!(mark.last_words(), "line 5; line 6; line 7; line 8; line 9");
        std::fs::write(&path, "x".repeat(1 << 20)).unwrap();
        assert_eq!(mark.last_words().len(), 600);
        std::fs::write(&path, "short").unwrap();
        assert_eq!(mark.last_words(), "short", "it was emptied");
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert_eq!(mark.last_words(), "");
    }
}
