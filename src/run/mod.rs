//! Runs: how they start, live and end, and what is written down about them.
//!
//! A run may end with a [`question`]; its [`answer`] starts another, which goes on in the same workbench ([`continuation`]).
//!
//! Three rooms. The protocol of a run is in this folder: a trigger [`claim`]s a name and launches a supervisor, both share the
//! lock of the run's [`entry`], which exists exactly while the run is unfinished; its end is requested in `end`, and written
//! down in [`recording`]; a process that finds an entry without an owner judges it in `liveness`. What the files say is in
//! [`record`], and what follows from how a run ended in [`status`]. The other rooms are `history`, what outlives the workbench, and
//! `log`, what the agent printed.

pub(crate) mod abandoned;
pub mod answer;
pub(crate) mod argument_space;
pub(crate) mod budget;
mod carriers;
pub(crate) mod check_job;
pub(crate) mod checks;
pub mod claim;
pub mod context;
pub mod continuation;
pub mod continue_run;
pub(crate) mod delete;
pub mod disagreement;
pub(crate) mod end;
mod end_on_slurm;
pub mod entry;
pub(crate) mod environment;
pub(crate) mod examine;
pub(crate) mod history;
pub(crate) mod hold;
pub(crate) mod home_machine;
pub(crate) mod hook;
pub mod id;
pub(crate) mod janitor_status;
pub(crate) mod job_order;
pub(crate) mod judge_locks;
pub(crate) mod launch;
pub(crate) mod limit;
pub(crate) mod liveness;
pub mod log;
pub(crate) mod on_disk;
pub(crate) mod options;
pub mod outcome_file;
pub(crate) mod output;
pub(crate) mod own_tree;
pub mod pin;
pub(crate) mod prompt;
pub mod question;
pub mod record;
pub(crate) mod recorded_processes;
pub mod recording;
pub(crate) mod report;
pub(crate) mod retention;
pub(crate) mod retries;
pub mod status;
pub(crate) mod submit;
pub(crate) mod this_machine;
pub(crate) mod trigger;
pub(crate) mod unwritten_ends;
mod verified;
pub mod workbench;
