//! Routines: what runs, when, and within which bounds.

pub(crate) mod bounds;
pub(crate) mod ceilings;
pub(crate) mod check;
mod cron_fields;
pub(crate) mod day;
pub(crate) mod edit;
pub(crate) mod home_snooze;
pub(crate) mod invalid_field;
pub(crate) mod known;
pub(crate) mod ledger;
pub mod listing;
pub(crate) mod model;
pub(crate) mod prompt;
pub(crate) mod repository;
pub(crate) mod resources;
pub(crate) mod schedule;
pub(crate) mod slug;
pub(crate) mod snooze;
pub(crate) mod store;
pub(crate) mod summary;
mod trusted_text;
pub(crate) mod webhook_token;
pub(crate) mod zone;
