//! moadim-mcp runs AI agents unattended. This is its theory of operation.
//!
//! A **routine** is a saved definition: a prompt, the name of an **agent** (a command that a person registered), limits. A
//! trigger makes a **run** of it, in a **workbench** of its own, and answers when the agent has really started. From then on
//! the run needs nobody: not the call, not the server, not the host.
//!
//! # A run on disk
//!
//! Files are the database. The protocol between processes has three parts: a directory that exists exactly while a run is
//! unfinished (`running/<run>`), a lock in it that its owners share, and a **cookie** in the environment of everything the
//! run starts.
//!
//! 1. The trigger *stages* a directory, locked from birth, and *claims* a name by renaming it into place (`run::claim`). Of
//!    any number of triggers one wins a second; the others take the next.
//! 2. It starts a **supervisor** as nobody's child (`run::launch`, `engine`). The supervisor takes a share of the lock before
//!    the trigger lets go of its own, so the run always has an owner.
//! 3. The supervisor (`supervisor`) takes the run (`supervisor.json`), clones the routine's repositories and runs the agent's
//!    setup. Then it starts the agent: directly, or through the user's login shell and a stub that becomes the agent and
//!    reports whether that worked. An agent that needs a terminal gets one that the supervisor holds. All of this may take
//!    longer than a trigger waits. Every second it checks the run's bound and requests to end.
//! 4. Once the agent has started, the trigger's process opens a window that follows the log (`session`), and answers. A
//!    window that cannot be opened is a warning.
//! 5. A process that wants the run ended writes `end.json`, once, and tells the supervisor. If the supervisor does not obey,
//!    its work is done from outside (`run::end`). Ending means that the whole tree is gone, and that this was checked
//!    (`process_tree`).
//! 6. The owner writes `outcome.json` into the workbench, then a line into the history, and removes the entry once both are
//!    on disk (`run::recording`).
//!
//! A process that dies at any point leaves an entry whose lock is free. A **judge** takes that lock alone, looks for the cookie
//! among all processes, and either finds the run alive without a supervisor, or finishes what was left to do
//! (`run::liveness`). Judges queue on a lock of their own, so an owners' lock that is held has an owner: looking changes
//! nothing. What cannot be judged is *unknown*: reported, never ended, never removed.
//!
//! How a run ended is one of the statuses of `run::status`, the only module that knows what follows from each.
//!
//! # Going on
//!
//! A run that needs a decision of a person ends as `asked`, with its question in its outcome. The question is open until
//! `questions/<run>.json` exists, which is created exclusively: of any number of answers one counts (`run::question`). A run that
//! goes on with it, or with anything else that a person wants, works in the same workbench, which keeps its path.
//! `continuations/<predecessor>.json`, again created exclusively, says whose that is (`run::continuation`). An answer that was
//! taken is gone on with by whichever process is alive, until an agent has started with it (`run::answer`).
//!
//! # The janitor
//!
//! One task with three loops (`janitor`). The **watchdog** looks at `running/` alone: it ends a run that is past its bound and
//! has no supervisor to do so, and records the end of abandoned runs. The **sweep** lists workbenches, then entries, then outcomes (any
//! other order shows fresh runs as lost), makes a plan with one pure function, renames what is to go into the trash, checks
//! once more that it is dead, and deletes it there, following no symlink and entering no mount. The **scheduler** finds what
//! is due without a lock. Under the routines' lock it claims a run and writes the routine's ledger (`routine::ledger`): of any
//! number of processes one does, and a claim that is missing in the ledger is found by its run.
//!
//! # Being watched
//!
//! Changes are found by looking at files (`query::changes`), so it does not matter which process made them. `mcp` reports
//! them to its clients, each as its era of the protocol does; `http` tells its clients of all of them (`query::survey`).
//!
//! # Layers
//!
//! Imports point down: `cli` → `http` → `mcp` → `dashboard` → `janitor` → `supervisor`, `query` → `run` → `engine` → `routine`,
//! `session`, `agent`, `setup` → `home`, `process_tree`, `bounded_command`, `environment`, `clock`, `logging`; `service` stands
//! beside the janitor. The core is synchronous; only `http`, `mcp` and the janitor's loops are not. Decisions are pure functions
//! over what was read, effects are thin, and each is tested as what it is.

#![forbid(unsafe_code)]
#![cfg_attr(not(feature = "dashboard"), allow(dead_code, reason = "some of it is for the HTTP interface alone"))]

pub mod agent;
mod archive;
mod bounded_command;
pub mod cli;
pub mod clock;
mod dashboard;
mod engine;
pub mod env_vars;
pub mod environment;
mod git;
pub mod home;
#[cfg(feature = "dashboard")]
mod http;
pub mod janitor;
mod logging;
pub mod mcp;
pub mod money;
pub mod options;
pub mod process_tree;
pub mod query;
mod quote;
mod random_token;
#[cfg(test)]
mod reference_docs;
pub mod routine;
pub mod run;
mod service;
pub mod session;
pub mod setup;
pub mod supervisor;
mod text_type;
