//! The status of a run, and everything that follows from it: the table of ARCHITECTURE.md, with one function per column.
//!
//! Nothing else in the program matches on a list of statuses.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::record::{FIRST_RECORD_VERSION, RECORD_VERSION};
use super::retention::Group;
use crate::routine::bounds::Retention;

/// How a run is, or how it ended. It is written once, with the outcome, and never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Its job waits on Slurm.
    Queued,
    /// It was triggered, and its agent has not started yet.
    Preparing,
    /// Its agent, or something that it started, is alive.
    Running,
    /// Its agent exited with status 0.
    Succeeded,
    /// Its agent exited with another status, or by a signal.
    Failed,
    /// It was ended at its bound.
    TimedOut,
    /// It was ended because it printed nothing for too long.
    Silent,
    /// A person, a tool, or the deletion of its routine ended it.
    Stopped,
    /// Its agent never started.
    LaunchFailed,
    /// It vanished, as in a power cut; nobody knows how it ended.
    Lost,
    /// Something outside ended it: a shutdown, a logout, a service manager.
    Interrupted,
    /// Its account's usage limit was used up.
    Limited,
    /// Its `precheck` said that there is nothing to do; no agent started.
    Skipped,
    /// Its agent ended with a question to a person.
    Asked,
    /// It ended, and its workbench is gone: only the history still has it. A view, never written.
    Reaped,
    /// Nothing certain can be said. A view, never written.
    Unknown,
}

/// What the end of a run does to the count of failures in a row (`max_consecutive_failures`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streak {
    /// Sets it to 0.
    Reset,
    /// Adds 1.
    Extend,
    /// Leaves it: the end says nothing about the routine.
    Keep,
}

/// A command of a person's that a run starts when it ends, or when it needs somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// `on_finish`.
    Finish,
    /// `on_failure`.
    Failure,
    /// `on_attention`.
    Attention,
}

/// The exit status of `trigger --wait`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitExit {
    /// A fixed one.
    Code(u8),
    /// The agent's own: its exit status, at least 1, or 128 and its signal.
    OfTheAgent,
}

/// What a run is as a task of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// It is not over.
    Working,
    /// It is over. A run that failed is no error of the call that started it.
    Completed,
    /// It was ended on request.
    Cancelled,
}

/// How a status is shown to a person at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// It is not over.
    Active,
    /// It ended well.
    Good,
    /// It did nothing, on purpose or for now.
    Neutral,
    /// It needs a look.
    Bad,
    /// It is past.
    Faded,
}

/// What follows from a status.
struct Row {
    is_failure: bool,
    streak: Streak,
    is_retried: bool,
    wait_exit: WaitExit,
    task: TaskState,
    tone: Tone,
}

impl Status {
    /// Whether an outcome can have it: the others are views of what is on disk.
    pub fn is_final(self) -> bool {
        self.task() != TaskState::Working && self != Self::Reaped
    }

    fn row(self) -> Row {
        use Streak::{Extend, Keep, Reset};
        use TaskState::{Cancelled, Completed, Working};
        use Tone::{Active, Bad, Faded, Good, Neutral};
        use WaitExit::{Code, OfTheAgent};
        #[rustfmt::skip]
        let (is_failure, streak, is_retried, wait_exit, task, tone) = match self {
            //                     failure streak  retry  --wait      task       shown as
            Self::Queued       => (false, Keep,   false, Code(125),  Working,   Active),
            Self::Preparing    => (false, Keep,   false, Code(125),  Working,   Active),
            Self::Running      => (false, Keep,   false, Code(125),  Working,   Active),
            Self::Succeeded    => (false, Reset,  false, Code(0),    Completed, Good),
            Self::Failed       => (true,  Extend, true,  OfTheAgent, Completed, Bad),
            Self::TimedOut     => (true,  Extend, false, Code(124),  Completed, Bad),
            Self::Silent       => (true,  Extend, false, Code(124),  Completed, Bad),
            Self::LaunchFailed => (true,  Extend, false, Code(125),  Completed, Bad),
            Self::Lost         => (true,  Extend, false, Code(125),  Completed, Bad),
            Self::Interrupted  => (true,  Keep,   true,  Code(125),  Completed, Bad),
            Self::Stopped      => (false, Keep,   false, Code(125),  Cancelled, Neutral),
            // Tried again once the limit is reset, with or without `[retry]`.
            Self::Limited      => (false, Keep,   false, Code(125),  Completed, Neutral),
            Self::Skipped      => (false, Keep,   false, Code(0),    Completed, Faded),
            Self::Asked        => (false, Keep,   false, Code(125),  Completed, Neutral),
            // As a task, a reaped run is what its outcome says.
            Self::Reaped       => (false, Keep,   false, Code(125),  Completed, Faded),
            Self::Unknown      => (false, Keep,   false, Code(125),  Working,   Bad),
        };
        Row { is_failure, streak, is_retried, wait_exit, task, tone }
    }

    /// Whether it counts as a failure, for `on_failure` and in every count of failures.
    pub fn is_failure(self) -> bool {
        self.row().is_failure
    }

    /// What it does to the routine's failures in a row.
    pub fn streak(self) -> Streak {
        self.row().streak
    }

    /// Whether a routine with `[retry]` tries again after it.
    pub fn is_retried(self) -> bool {
        self.row().is_retried
    }

    /// Which retention the workbench has: `failed_ttl` unless it is known to have succeeded, or to be empty.
    pub fn retention(self) -> Retention {
        match self {
            Self::Succeeded => Retention::Ttl,
            Self::Skipped => Retention::NextSweep,
            _ => Retention::FailedTtl,
        }
    }

    /// Among which runs `keep_last` counts it; `None` if it would only take the place of another.
    pub fn keep_last_group(self) -> Option<Group> {
        match self {
            Self::Succeeded => Some(Group::Succeeded),
            Self::Limited | Self::Skipped => None,
            _ => Some(Group::Other),
        }
    }

    /// Which hooks run when it is recorded; of an unknown one, once it has been unknown for a while.
    pub fn hooks(self) -> &'static [Hook] {
        match (self.is_final(), self.is_failure()) {
            // A check that runs every minute and mostly says no is no news.
            _ if self == Self::Skipped => &[],
            _ if self == Self::Asked => &[Hook::Finish, Hook::Attention],
            (true, true) => &[Hook::Finish, Hook::Failure],
            (true, false) => &[Hook::Finish],
            _ if self == Self::Unknown => &[Hook::Attention],
            (false, _) => &[],
        }
    }

    /// Whether it is certain that no agent was at work, so that the run cost nothing.
    pub fn never_had_agent(self) -> bool {
        matches!(self, Self::LaunchFailed | Self::Skipped)
    }

    /// Whether a run that ended so counts towards `max_daily_runs`: one that its precheck did not want does not.
    pub fn counts_for_its_day(self) -> bool {
        self != Self::Skipped
    }

    /// What `trigger --wait` exits with.
    pub fn wait_exit(self) -> WaitExit {
        self.row().wait_exit
    }

    /// What it is as a task of the protocol.
    pub fn task(self) -> TaskState {
        self.row().task
    }

    /// How it is shown at a glance.
    pub fn tone(self) -> Tone {
        self.row().tone
    }

    /// The oldest version of records whose readers know it.
    pub fn record_version(self) -> u32 {
        match self {
            Self::Interrupted | Self::Limited | Self::Skipped | Self::Asked => RECORD_VERSION,
            _ => FIRST_RECORD_VERSION,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every status, in the order of the table.
    const ALL: [Status; 16] = [
        Status::Queued,
        Status::Preparing,
        Status::Running,
        Status::Succeeded,
        Status::Failed,
        Status::TimedOut,
        Status::Silent,
        Status::LaunchFailed,
        Status::Lost,
        Status::Interrupted,
        Status::Stopped,
        Status::Limited,
        Status::Skipped,
        Status::Asked,
        Status::Reaped,
        Status::Unknown,
    ];

    /// The table of ARCHITECTURE.md, cell by cell.
    #[test]
    fn every_column_is_as_documented() {
        let table = include_str!("../../ARCHITECTURE.md");
        let rows: Vec<Vec<&str>> = table
            .lines()
            .skip_while(|line| !line.starts_with("| status | failure |"))
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
            .collect();
        let documented: Vec<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
        assert_eq!(documented, ALL.map(|status| status.to_string()));
        for (row, status) in rows.iter().zip(ALL) {
            assert_eq!(row[1..], cells(status), "{status}");
        }
    }

    fn cells(status: Status) -> Vec<&'static str> {
        let yes = |value: bool| if value { "yes" } else { "no" };
        if !status.is_final() {
            let waits = match status.task() {
                TaskState::Working => ("waits", "working"),
                _ => ("as its outcome", "as its outcome"),
            };
            let hooks = if status.hooks() == [Hook::Attention] { "attention, once" } else { "–" };
            return vec!["no", "–", "–", "–", "–", hooks, waits.0, waits.1];
        }
        vec![
            yes(status.is_failure()),
            match status.streak() {
                Streak::Reset => "reset",
                Streak::Extend => "+1",
                Streak::Keep => "–",
            },
            yes(status.is_retried()),
            match status.retention() {
                Retention::FailedTtl if status == Status::Asked => "`failed_ttl_secs` from the question's close",
                Retention::Ttl => "`ttl_secs`",
                Retention::FailedTtl => "`failed_ttl_secs`",
                Retention::NextSweep => "next sweep",
            },
            match status.keep_last_group() {
                Some(Group::Succeeded) => "succeeded",
                Some(Group::Other) if status == Status::Asked => "other, once the question is closed",
                Some(Group::Other) => "other",
                None => "none",
            },
            match status.hooks() {
                [Hook::Finish] if status == Status::Limited => "finish; attention after the last try",
                [Hook::Finish] => "finish",
                [Hook::Finish, Hook::Failure] => "finish, failure",
                [Hook::Finish, Hook::Attention] => "finish, attention",
                _ => "none",
            },
            match status.wait_exit() {
                WaitExit::Code(0) => "0",
                WaitExit::Code(124) => "124",
                WaitExit::Code(_) => "125",
                WaitExit::OfTheAgent => "the agent's",
            },
            match status.task() {
                TaskState::Working => "working",
                TaskState::Completed => "completed",
                TaskState::Cancelled => "cancelled",
            },
        ]
    }

    #[test]
    fn only_what_the_first_release_does_not_know_needs_a_newer_reader() {
        for status in ALL.into_iter().filter(|status| status.is_final()) {
            let is_known = !matches!(status, Status::Interrupted | Status::Limited | Status::Skipped | Status::Asked);
            assert_eq!(status.record_version() == FIRST_RECORD_VERSION, is_known, "{status}");
        }
    }
}
