//! What is known of runs and routines: one view for the tools, the commands and the resources.

pub mod changes;
pub mod digest;
pub mod inspect;
pub mod listing;
pub mod routine_view;
pub mod view;
pub mod wait;
