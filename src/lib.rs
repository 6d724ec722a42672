//! moadim-mcp runs AI agents unattended.

pub mod cli;
pub mod clock;
pub mod home;
pub mod mcp;
pub mod process_tree;
pub mod routine;
pub mod run;
