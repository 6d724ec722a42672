//! The order to end a run by force, with its reason.

use serde::{Deserialize, Serialize};

use crate::clock::{HumanDuration, UnixSeconds};
use crate::run::status::Status;

/// Why a run was ended by force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    TimedOut,
    /// A person, a tool, or the deletion of its routine.
    Stopped,
    /// Its start took too long.
    LaunchFailed,
    /// It printed nothing for too long.
    Silent,
    /// Its supervisor received a termination signal.
    Interrupted,
}

impl From<EndCause> for Status {
    fn from(cause: EndCause) -> Self {
        match cause {
            EndCause::TimedOut => Self::TimedOut,
            EndCause::Stopped => Self::Stopped,
            EndCause::LaunchFailed => Self::LaunchFailed,
            EndCause::Silent => Self::Silent,
            EndCause::Interrupted => Self::Interrupted,
        }
    }
}

/// `end.json`: the run must end. The first writer wins, so that every reader knows one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRequest {
    /// What the run's status will follow from.
    pub cause: EndCause,
    /// The same in words, with the numbers.
    pub reason: String,
    pub by: String,
    /// When it was asked for.
    pub at: UnixSeconds,
    /// The run's last output before that.
    pub last_output: UnixSeconds,
}

/// Says that a run exceeded its bound, with both numbers.
pub(crate) fn exceeded_max_runtime(age_secs: u64, max_runtime_secs: u64) -> String {
    let (age, allowed) = distinct(age_secs, max_runtime_secs);
    format!("exceeded max runtime: {age}, {allowed} allowed")
}

/// Says that a run waited too long in Slurm's queue, with both numbers.
pub(crate) fn exceeded_max_queue(age_secs: u64, max_queue_secs: u64) -> String {
    let (age, allowed) = distinct(age_secs, max_queue_secs);
    format!("waited in Slurm's queue for {age}, {allowed} allowed (max_queue_secs)")
}

/// Says that Slurm ends a job that has reached its limit, which a run's bound may have been raised beyond.
pub(crate) fn exceeded_job_limit(limit_secs: u64) -> String {
    format!(
        "its job reached its time limit of {}; a bound that is raised later does not raise it",
        HumanDuration(limit_secs)
    )
}

/// Says that an agent printed nothing for too long, with both numbers.
pub(crate) fn exceeded_max_silence(silent_secs: u64, max_silence_secs: u64) -> String {
    let (silent, allowed) = distinct(silent_secs, max_silence_secs);
    format!("hung: it printed nothing for {silent}, {allowed} allowed")
}

/// Formats two lengths of time so that they differ.
fn distinct(one: u64, other: u64) -> (String, String) {
    let rounded = (HumanDuration(one).to_string(), HumanDuration(other).to_string());
    if rounded.0 == rounded.1 { (format!("{one} s"), format!("{other} s")) } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_was_barely_exceeded_is_said_with_two_numbers() {
        assert_eq!(
            exceeded_max_queue(86_401, 86_400),
            "waited in Slurm's queue for 86401 s, 86400 s allowed (max_queue_secs)"
        );
        assert_eq!(
            exceeded_max_queue(90_000, 86_400),
            "waited in Slurm's queue for 1 day 1 h, 1 day allowed (max_queue_secs)"
        );
        assert_eq!(exceeded_max_runtime(86_401, 86_400), "exceeded max runtime: 86401 s, 86400 s allowed");
        assert_eq!(exceeded_max_silence(61, 60), "hung: it printed nothing for 1 min 1 s, 1 min allowed");
    }
}
