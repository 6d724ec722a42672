//! The records that a run leaves on its way, as files of its entry and its workbench.

#![allow(missing_docs, reason = "a field without a comment is what its name says")]

mod end;
mod job;
mod manifest;
mod outcome;
mod supervision;

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::home::atomic_file::{self, FileError};

pub use end::{EndCause, EndRequest};
pub(crate) use end::{exceeded_job_limit, exceeded_max_queue, exceeded_max_runtime, exceeded_max_silence};
pub use job::{Gone, JobOrder, SlurmJob, SubmittedJob};
pub use manifest::{Environment, Machine, Manifest, Origin, Precheck, Verify};
pub(crate) use outcome::UNVERIFIED;
pub use outcome::{Ending, Outcome};
pub use supervision::{AgentExit, ProcessesRecord, Started, SupervisorRecord};

/// The newest version of records, which this program writes. Those of version 1 lack the home, the machine of `started.json`,
/// and statuses that came later.
pub const RECORD_VERSION: u32 = 2;

/// The version of the records that release 0.1.0 reads and writes. To it, a run with a newer record is unknown, and it leaves
/// the run alone.
pub const FIRST_RECORD_VERSION: u32 = 1;

/// A record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A newer program wrote it; what it means is not ours to guess.
    #[error("{path} is of version {version}, newer than this program knows ({RECORD_VERSION}); update moadim-mcp")]
    Newer { path: String, version: u32 },
    /// The file is missing, unreadable or damaged.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Reads a record of a version that we know.
///
/// # Errors
/// It is newer than this program, or the file is missing, unreadable or damaged.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, RecordError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let bytes = atomic_file::read(path, atomic_file::MAX_RECORD_BYTES)?;
    let damaged = |error| FileError::damaged(path, error);
    let Versioned { version } = serde_json::from_slice(&bytes).map_err(damaged)?;
    if version > RECORD_VERSION {
        return Err(RecordError::Newer { path: path.display().to_string(), version });
    }
    Ok(serde_json::from_slice(&bytes).map_err(damaged)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_record_is_unknown_not_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        std::fs::write(&path, format!(r#"{{"version": {}, "shape": "new"}}"#, RECORD_VERSION + 1)).unwrap();
        assert!(matches!(read::<Manifest>(&path), Err(RecordError::Newer { .. })));
        std::fs::write(&path, r#"{"version": 1}"#).unwrap();
        assert!(matches!(read::<Manifest>(&path), Err(RecordError::File(FileError::Damaged { .. }))));
    }
}
