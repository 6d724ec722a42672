//! moadim-mcp runs AI agents unattended: this is its theory of operation.
//!
//! A **routine** is a saved definition: a prompt, the name of an **agent** (a command that a person registered), limits.
//! A trigger makes a **run** of it, in a **workbench** of its own, and answers when the agent has really started. From
//! then on the run needs nobody: not the call, not the server, not the host.
//!
//! # A run on disk
//!
//! Files are the database, and the protocol between processes is made of three things: a directory that exists exactly
//! while a run is unfinished (`running/<run>`), a lock in it that its owners share, and a **cookie** in the environment of
//! everything that the run starts.
//!
//! 1. The trigger *stages* a directory, locked from birth, and *claims* a name by renaming it into place
//!    ([`run::claim`]). Of any number of triggers one wins a second; the others take the next.
//! 2. It starts a **supervisor** as nobody's child ([`engine`]), waits for the agent, and opens a window that shows the run
//!    ([`session`]), for which nobody waits ([`run::launch`]). The supervisor takes a share of the lock before the trigger lets go of
//!    its own, so the run never is without an owner.
//! 3. The supervisor ([`supervisor`]) takes the run (`supervisor.json`), clones what the routine asks for and runs the agent's
//!    setup, if there is such. Then it starts the agent, on a terminal if it needs one: itself, or through the user's login shell, where a
//!    stub that becomes the agent says whether that worked. All of this may take longer than a trigger waits. It looks at the bound,
//!    and at what is asked, every second.
//! 4. Whoever wants the run ended writes `end.json`, once, and tells the supervisor; if that does not obey, its work is done
//!    from outside ([`run::end`]). Ending means that the whole tree is gone, and that this was checked
//!    ([`process_tree`]).
//! 5. The owner writes `outcome.json` into the workbench, then a line into the history, and takes the entry away once both are
//!    on disk ([`run::recording`]).
//!
//! A process that dies at any point leaves an entry whose lock is free. A **judge** takes that lock alone, looks for the cookie
//! among all processes, and either finds the run alive without a supervisor, or finishes what was left to do
//! ([`run::liveness`]). Judges queue on a lock of their own, so an owners' lock that is held has an owner: looking changes
//! nothing. What cannot be judged is *unknown*: reported, never ended, never removed.
//!
//! How a run ended is one of the statuses of [`run::status`], which alone knows what follows from each.
//!
//! # The janitor
//!
//! One task with three loops ([`janitor`]). The **watchdog** looks at `running/` alone: it ends what is past its bound and has no
//! supervisor that would, and closes the books of the abandoned. The **sweep** lists workbenches, then entries, then outcomes
//! (any other order shows fresh runs as lost), makes a plan with one pure function, renames what is to go into the trash,
//! looks at its life once more, and deletes it there with an engine that follows no symlink and enters no mount.
//! The **scheduler** finds what is due without a lock, and under the routines' lock claims a run for it and writes the routine's
//! ledger ([`routine::ledger`]): of any number of processes one does, and a claim that no ledger tells of is found by its run.
//!
//! # Being watched
//!
//! Whoever wants to know what changes has it looked for ([`query::changes`]): in the files, so that it does not matter which
//! process changed them. [`mcp`] tells its clients, each as its era of the protocol does.
//!
//! # Layers
//!
//! Imports point down: [`cli`] → [`mcp`] → [`janitor`] → [`supervisor`], [`query`] → [`run`] → [`engine`] → [`routine`], [`session`],
//! [`agent`], [`setup`] → [`home`], [`process_tree`], [`environment`], [`clock`], [`logging`]; [`service`] stands beside the janitor. The
//! core is synchronous; only `mcp` and the janitor's loops are not. Decisions are pure functions over what was read, effects
//! are thin, and each is tested as what it is.

#![forbid(unsafe_code)]

pub mod agent;
pub mod cli;
pub mod clock;
pub mod engine;
pub mod environment;
pub mod home;
pub mod janitor;
pub mod logging;
pub mod mcp;
pub mod process_tree;
pub mod query;
pub mod quote;
pub mod routine;
pub mod run;
pub mod service;
pub mod session;
pub mod setup;
pub mod supervisor;
