//! moadim-mcp runs AI agents unattended.

pub mod agent;
pub mod clock;
pub mod environment;
pub mod home;
pub mod process_tree;
pub mod routine;
pub mod run;
pub mod session;
