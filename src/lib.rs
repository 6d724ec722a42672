//! moadim-mcp runs AI agents unattended.

pub mod agent;
pub mod cli;
pub mod clock;
pub mod environment;
pub mod home;
pub mod janitor;
pub mod mcp;
pub mod process_tree;
pub mod routine;
pub mod run;
pub mod session;
pub mod supervisor;
