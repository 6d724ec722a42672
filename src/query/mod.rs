//! What is known about runs and routines: the same views for tools, commands and resources.

pub(crate) mod changes;
pub(crate) mod digest;
pub(crate) mod inspect;
pub mod listing;
pub(crate) mod question_view;
pub(crate) mod routine_view;
pub(crate) mod survey;
pub(crate) mod usage;
pub(crate) mod used_today;
pub(crate) mod view;
pub(crate) mod wait;
