//! moadim-mcp runs AI agents unattended.

pub mod clock;
pub mod home;
pub mod janitor;
pub mod process_tree;
pub mod routine;
pub mod run;
