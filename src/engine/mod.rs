//! Where supervisors run, and what can be asked of them from outside: start one, look for it, wake it, end it with its run.
//!
//! [`Local`] starts them as processes of this machine, [`slurm`] as jobs on the nodes of a cluster.

mod local;
pub mod slurm;

pub use local::Local;
