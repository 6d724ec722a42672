//! Routines: what is to be run, and within which bounds.

pub mod bounds;
pub mod edit;
pub mod listing;
pub mod model;
pub mod repository;
pub mod slug;
pub mod store;
