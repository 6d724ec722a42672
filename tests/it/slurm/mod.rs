//! Runs on a real Slurm cluster.

mod cluster;
mod doctor;
