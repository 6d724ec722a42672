//! The janitor: the background task that ends hung runs and removes expired workbenches.

pub mod evidence;
pub mod plan;
pub mod remove;
pub mod sweep;
pub mod watchdog;
