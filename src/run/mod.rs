//! Runs: starting them, telling whether they live, ending them, and writing down how they ended.

pub mod argument_space;
mod carriers;
pub mod claim;
pub mod context;
pub mod delete;
pub mod end;
pub mod entry;
pub mod environment;
pub mod history;
pub mod hook;
pub mod id;
pub mod judge_locks;
pub mod launch;
pub mod liveness;
pub mod log;
pub mod on_disk;
pub mod own_tree;
pub mod pin;
pub mod record;
pub mod recorded_processes;
pub mod recording;
pub mod retention;
pub mod retries;
pub mod status;
pub mod this_machine;
pub mod trigger;
pub mod unwritten_ends;
