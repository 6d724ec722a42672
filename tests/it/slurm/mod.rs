//! Runs on a real Slurm cluster.

mod cluster;
mod escapees;
mod job_ends;
mod many;
mod runs;
mod scene;
