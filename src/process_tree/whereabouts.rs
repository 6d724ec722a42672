//! Where processes work, and of which run they say they are: the last evidence where no cookie is known.

use std::path::PathBuf;

use sysinfo::{ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind};

use super::{ScanError, own_pid};

/// The environment variable that holds the run's id.
pub const RUN_VARIABLE: &str = "MOADIM_RUN";

/// What a living process shows of itself; what it hides is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// Its working directory.
    pub directory: Option<PathBuf>,
    /// The value of [`RUN_VARIABLE`].
    pub run: Option<String>,
}

/// Lists the whereabouts of all living processes that may be looked at: a few milliseconds.
///
/// # Errors
/// As for [`super::Scan::take`].
pub fn whereabouts() -> Result<Vec<Whereabouts>, ScanError> {
    let mut system = System::new().map_err(|source| ScanError::Refused { source })?;
    let wanted =
        ProcessRefreshKind::nothing().without_tasks().with_cwd(UpdateKind::Always).with_environ(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, wanted);
    let us = own_pid();
    if !system.processes().keys().any(|pid| pid.as_u32() == us.cast_unsigned()) {
        return Err(ScanError::WithoutUs { pid: us });
    }
    let living = |process: &&sysinfo::Process| !matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead);
    let run =
        |entry: &std::ffi::OsString| Some(entry.to_str()?.strip_prefix(RUN_VARIABLE)?.strip_prefix('=')?.to_owned());
    let see = |process: &sysinfo::Process| Whereabouts {
        directory: process.cwd().map(PathBuf::from),
        run: process.environ().iter().find_map(run),
    };
    Ok(system.processes().values().filter(living).map(see).collect())
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
