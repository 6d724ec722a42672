//! Runs: starting them, telling whether they live, ending them, and writing down how they ended.

pub mod aftermath;
mod carriers;
pub mod changes;
pub mod claim;
pub mod delete;
pub mod end;
pub mod entry;
pub mod history;
pub mod hook;
pub mod id;
pub mod inspect;
pub mod launch;
pub mod listing;
pub mod liveness;
pub mod log;
pub mod overview;
pub mod own_tree;
pub mod pin;
pub mod record;
pub mod recording;
pub mod retention;
pub mod trigger;
pub mod view;
pub mod wait;
pub mod workplace;
