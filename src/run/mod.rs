//! One execution of a routine.

pub mod id;
