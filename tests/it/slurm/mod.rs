//! Runs on a real Slurm cluster.

mod attach;
mod cluster;
mod doctor;
