//! Routines: what runs, when, and within which bounds.

pub mod bounds;
mod cron_fields;
pub mod edit;
pub mod invalid_field;
pub mod known;
pub mod ledger;
pub mod listing;
pub mod model;
pub mod prompt;
pub mod repository;
pub mod schedule;
pub mod slug;
pub mod snooze;
pub mod store;
pub mod summary;
mod trusted_text;
pub mod zone;
