//! Runs on a real Slurm cluster.

mod cluster;
mod runs;
mod scene;
