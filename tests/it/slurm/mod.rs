//! Runs on a real Slurm cluster.

mod cluster;
mod faults;
mod runs;
mod scene;
