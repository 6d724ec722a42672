//! Every environment variable with a name of ours. `docs/configuration.md` is generated from this file.

// Set by you

/// The home: where everything is kept. An absolute path; `~/.moadim` if it is not set.
pub const HOME: &str = "MOADIM_HOME";

/// The shell that completes a command line: set by the script that `MOADIM_COMPLETE=bash moadim-mcp` prints, and by nothing else.
pub const COMPLETE: &str = "MOADIM_COMPLETE";

// Set for agents, their setup and everything they start

/// The run's id, which is also the name of its workbench.
pub const RUN: &str = "MOADIM_RUN";
/// The absolute path of this program, which hooks of an agent start.
pub const PROGRAM: &str = "MOADIM_PROGRAM";
/// 128 random bits in hexadecimal, by which the run's processes are found. Leave it alone.
pub const COOKIE: &str = "MOADIM_COOKIE";

// Set for hooks, in addition to `MOADIM_HOME` and `MOADIM_RUN`; absent where there is nothing to say

/// The routine's slug.
pub const ROUTINE: &str = "MOADIM_ROUTINE";
/// The agent's name.
pub const AGENT: &str = "MOADIM_AGENT";
/// How the run ended, such as `failed`; `unknown` if that cannot be decided.
pub const STATUS: &str = "MOADIM_STATUS";
/// Why, in words. It may hold a model's words: quote it.
pub const REASON: &str = "MOADIM_REASON";
/// Who ended the run, if it did not end by itself.
pub const ENDED_BY: &str = "MOADIM_ENDED_BY";
/// The agent's exit code.
pub const EXIT_CODE: &str = "MOADIM_EXIT_CODE";
/// The number of the signal that ended the agent.
pub const SIGNAL: &str = "MOADIM_SIGNAL";
/// When the run was triggered, as RFC 3339 in UTC.
pub const TRIGGERED_AT: &str = "MOADIM_TRIGGERED_AT";
/// When it finished, as RFC 3339 in UTC.
pub const FINISHED_AT: &str = "MOADIM_FINISHED_AT";
/// Whole seconds from the agent's start to its end.
pub const DURATION_SECS: &str = "MOADIM_DURATION_SECS";
/// The first line of its report. It is a model's words: quote it.
pub const HEADLINE: &str = "MOADIM_HEADLINE";
/// What the run asks, with its options. It is a model's words: quote it.
pub const QUESTION: &str = "MOADIM_QUESTION";
/// What the agent says it cost, in US dollars.
pub const COST_USD: &str = "MOADIM_COST_USD";
/// What its repositories hold that no remote has, and why it cannot be archived if it cannot.
pub const UNSAVED_WORK: &str = "MOADIM_UNSAVED_WORK";
/// The run's workbench.
pub const WORKBENCH: &str = "MOADIM_WORKBENCH";
/// The run's log.
pub const LOG: &str = "MOADIM_LOG";

// Between our own processes, and for tests

/// The terminal that the `exec` stub takes for the agent.
pub const TERMINAL: &str = "MOADIM_TERMINAL";
/// A file that holds the time for the scheduler, in Unix seconds. Debug builds only.
pub const TEST_CLOCK: &str = "MOADIM_TEST_CLOCK";
