//! How the cluster is set up, as far as runs depend on it: asked for now and then.

use std::time::{Duration, Instant};

use super::client::{self, ClientError};

/// How long an answer holds: a cluster's settings change rarely, and a report of health may be asked for often.
pub(super) const HOLDS: Duration = Duration::from_secs(5 * 60);

/// What a survey found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// The names of all partitions.
    pub partitions: Vec<String>,
    /// How Slurm finds the processes of a job (ProctrackType).
    pub tracking: Option<String>,
    /// How many seconds lie between TERM and KILL where Slurm itself ends a job (KillWait).
    pub kill_wait_secs: Option<u64>,
}

impl Survey {
    fn of_output(partitions: &str, config: &str) -> Self {
        let seconds = |value: &str| value.split_whitespace().next()?.parse().ok();
        Self {
            partitions: partitions.lines().map(|line| line.trim().to_owned()).collect(),
            tracking: setting_in(config, "ProctrackType"),
            kill_wait_secs: setting_in(config, "KillWait").as_deref().and_then(seconds),
        }
    }

    /// Whether Slurm finds every process of a job, however it tries to escape.
    pub fn tracks_by_cgroup(&self) -> bool {
        self.tracking.as_deref() == Some(CGROUP_TRACKING)
    }
}

/// The tracking that finds every process.
const CGROUP_TRACKING: &str = "proctrack/cgroup";

/// Returns the value of a setting in what `scontrol show config` printed.
fn setting_in(config: &str, name: &str) -> Option<String> {
    let value = |line: &str| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    };
    config.lines().find_map(value)
}

/// Asks Slurm, until the deadline for all of it.
pub(super) fn ask(deadline: Instant) -> Result<Survey, ClientError> {
    let partitions = client::run("sinfo", client::command("sinfo")?.args(["-h", "-o", "%R"]), deadline)?;
    let config = client::run("scontrol", client::command("scontrol")?.args(["show", "config"]), deadline)?;
    Ok(Survey::of_output(&partitions, &config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_survey_is_read_from_what_slurm_prints() {
        let config = "Configuration data as of X\nKillOnBadExit           = 0\nKillWait                = 30 sec\n\
                      ProctrackType           = proctrack/cgroup\n\nSlurmctld(primary) at x is UP\n";
        let survey = Survey::of_output("main\ngpu\n", config);
        assert_eq!(survey.partitions, ["main", "gpu"]);
        assert_eq!((survey.kill_wait_secs, survey.tracks_by_cgroup()), (Some(30), true));
        let silent = Survey::of_output("", "");
        assert_eq!((silent.kill_wait_secs, silent.tracks_by_cgroup()), (None, false));
    }
}
