//! A run's workbench: the directory in which its agent works, and those files there that this program reads or writes.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::continuation;
use super::id::RunId;
use super::question::QUESTION_FILE;
use super::report::REPORT_FILE;
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::FileError;

/// Where the files of runs lie that others continued, below their workbench, each in a folder named after its run.
pub(crate) const PREVIOUS: &str = "previous";

/// The files of a run's workbench that this program reads or writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workbench {
    directory: PathBuf,
    /// Where the run's own files are.
    files: PathBuf,
}

impl Workbench {
    /// Names the workbench that was made for a run, with the files of the newest run in it; it need not be there.
    pub fn named(home: &Home, first: &RunId) -> Self {
        let directory = home.workbenches().join(first.to_string());
        Self { files: directory.clone(), directory }
    }

    /// Finds the workbench of a run, and that run's own files in it: it may go on in the workbench of another run, and another may
    /// go on in its. For looking only: the link that says so is within an agent's reach.
    pub fn of(home: &Home, run: &RunId) -> Self {
        let linked = continuation::linked_workbench(home, run);
        let found = Self::named(home, linked.as_ref().unwrap_or(run));
        if !continuation::is_continued(home, run) {
            return found;
        }
        // Until they were moved there, they are where they were.
        let previous = found.clone().of_previous(run);
        if previous.files.is_dir() { previous } else { found }
    }

    /// Returns the same with the files of a run that another one continued.
    pub(crate) fn of_previous(self, run: &RunId) -> Self {
        Self { files: self.directory.join(PREVIOUS).join(run.to_string()), ..self }
    }

    /// Returns the agent's working directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the file that pins it.
    pub(crate) fn pin_file(&self, home: &Home) -> PathBuf {
        home.pins().join(self.directory.file_name().unwrap_or_default())
    }

    /// Makes the directory (0700), but none above it: a home that was taken away is not made again.
    ///
    /// # Errors
    /// The system's; one that is there already is an error too.
    pub(crate) fn make(&self) -> Result<(), FileError> {
        let made = DirBuilder::new().mode(0o700).create(&self.directory);
        made.map_err(|source| FileError::io("make", &self.directory, source))
    }

    /// Whether there is a directory (a symlink to one is none). What cannot be looked at counts as there.
    pub fn exists(&self) -> bool {
        match self.directory.symlink_metadata() {
            Ok(metadata) => metadata.is_dir(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    pub(crate) fn prompt_file(&self) -> PathBuf {
        self.files.join("prompt.md")
    }

    /// Returns the file in which the agent asks a person.
    pub(crate) fn question_file(&self) -> PathBuf {
        self.files.join(QUESTION_FILE)
    }

    /// Returns the file with what was answered, for an agent that reads no prompt.
    pub(crate) fn answer_file(&self) -> PathBuf {
        self.files.join("answer.md")
    }

    /// Returns the file in which the agent reports.
    pub(crate) fn report_file(&self) -> PathBuf {
        self.files.join(REPORT_FILE)
    }

    /// Returns the file of everything that the agent printed.
    pub fn log(&self) -> PathBuf {
        self.files.join("agent.log")
    }

    /// Returns the file of what the agent printed on stderr, where its stdout is for programs.
    pub(crate) fn stderr_log(&self) -> PathBuf {
        self.files.join("agent.stderr.log")
    }

    /// Returns the file that says what the agent prints on stdout, where that is for programs.
    pub(crate) fn format_file(&self) -> PathBuf {
        self.files.join("agent.format")
    }

    /// Opens the log to append to it, and makes it where it is gone.
    pub(crate) fn open_log(&self) -> Result<File, FileError> {
        open_to_append(self.log())
    }

    /// Returns the file that says which sizes the agent's terminal had, and from where in the log on.
    pub(crate) fn sizes_file(&self) -> PathBuf {
        self.files.join("agent.sizes")
    }

    /// Returns the file of the run's outcome.
    pub(crate) fn outcome_file(&self) -> PathBuf {
        self.files.join("outcome.json")
    }

    /// Returns all files that belong to one run, but for its outcome.
    pub(crate) fn own_files(&self) -> [PathBuf; 8] {
        [
            self.log(),
            self.stderr_log(),
            self.format_file(),
            self.sizes_file(),
            self.prompt_file(),
            self.answer_file(),
            self.question_file(),
            self.report_file(),
        ]
    }

    /// Returns the time of the last output and the log's size; `None` while there is no regular file.
    pub(crate) fn log_state(&self) -> Option<(UnixSeconds, u64)> {
        let metadata = self.log().symlink_metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some((metadata.modified().ok()?.into(), metadata.len()))
    }

    /// Returns the time of the last output on stdout or stderr.
    fn last_written(&self) -> Option<UnixSeconds> {
        let written = |path: PathBuf| {
            let metadata = path.symlink_metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some(metadata.modified().ok()?.into())
        };
        written(self.log()).max(written(self.stderr_log()))
    }

    /// Returns the run's last output, or `otherwise` if it never had any: never before that, and not in the future, where
    /// the agent may have put it.
    pub(crate) fn last_output_or(&self, otherwise: UnixSeconds) -> UnixSeconds {
        self.last_written().map_or(otherwise, |written: UnixSeconds| written.min(UnixSeconds::now()).max(otherwise))
    }
}

/// Opens a file, never through a symlink, and without waiting for the reader of a fifo, which a setup may have put there.
pub(crate) fn open_to_append(path: PathBuf) -> Result<File, FileError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(&path)
        .map_err(|source| FileError::io("open", &path, source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_workbench_that_cannot_be_looked_at_counts_as_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| Workbench { directory: dir.path().join(path), files: dir.path().join(path) };
        std::fs::create_dir(dir.path().join("there")).unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("there", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("round", dir.path().join("round")).unwrap();
        let known = [("there", true), ("file", false), ("link", false), ("gone", false), ("round/a-1", true)];
        for (path, exists) in known {
            assert_eq!(at(path).exists(), exists, "{path}");
        }
    }

    #[test]
    fn rule_4_an_output_in_the_future_counts_as_one_now() {
        let dir = tempfile::tempdir().unwrap();
        let workbench = Workbench { directory: dir.path().to_owned(), files: dir.path().to_owned() };
        let log = std::fs::File::create(workbench.log()).unwrap();
        log.set_modified(SystemTime::now() + Duration::from_secs(1_000_000)).unwrap();
        let last = workbench.last_output_or(UnixSeconds(0));
        assert!(last <= UnixSeconds::now(), "an agent could keep its workbench for ever");
        assert_eq!(workbench.last_output_or(UnixSeconds(u64::MAX)), UnixSeconds(u64::MAX));
    }
}
