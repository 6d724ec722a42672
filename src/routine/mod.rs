//! What is to be run.

pub mod slug;
