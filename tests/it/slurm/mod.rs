//! Runs on a real Slurm cluster.

mod cluster;
