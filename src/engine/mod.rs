//! Where supervisors run, and what can be asked of them from outside: start one, look for it, wake it, end it with its run.
//!
//! A place other than this machine stands beside [`Local`].

mod local;

pub use local::Local;
