//! The janitor: what ends hung runs and removes finished ones.

pub mod remove;
