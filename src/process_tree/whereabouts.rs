//! Where processes work, and of which run they say they are: the last evidence where no cookie is known.

use std::ffi::OsStr;
use std::path::PathBuf;

use super::{ScanError, own_pid, platform};

pub use crate::env_vars::RUN as RUN_VARIABLE;

/// What a living process shows of itself; what it hides is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    pub directory: Option<PathBuf>,
    pub run: Option<String>,
}

impl Whereabouts {
    pub(super) fn run_in<'a>(environment: impl IntoIterator<Item = &'a OsStr>) -> Option<String> {
        let value = |entry: &'a OsStr| entry.to_str()?.strip_prefix(RUN_VARIABLE)?.strip_prefix('=');
        environment.into_iter().find_map(value).map(str::to_owned)
    }
}

/// Lists the whereabouts of all living processes that may be looked at.
pub fn whereabouts() -> Result<Vec<Whereabouts>, ScanError> {
    let all = platform::whereabouts()?;
    let us = own_pid();
    if all.iter().any(|(pid, _)| *pid == us) {
        Ok(all.into_iter().map(|(_, whereabouts)| whereabouts).collect())
    } else {
        Err(ScanError::WithoutUs { pid: us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::{Duration, Instant};

    #[test]
    fn a_process_shows_where_it_works_and_of_which_run_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().canonicalize().unwrap();
        let mut child =
            Command::new("sleep").arg("60").env(RUN_VARIABLE, "of-whereabouts-1").current_dir(&place).spawn().unwrap();
        let wanted = Whereabouts { directory: Some(place), run: Some("of-whereabouts-1".to_owned()) };
        let deadline = Instant::now() + Duration::from_secs(5);
        // In the middle of exec(2) the environment is empty.
        while !whereabouts().unwrap().contains(&wanted) {
            assert!(Instant::now() < deadline, "it is not seen");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!whereabouts().unwrap().contains(&wanted));
    }
}
