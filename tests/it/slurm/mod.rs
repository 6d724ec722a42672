//! Runs on a real Slurm cluster.

mod attach;
mod cluster;
mod doctor;
mod faults;
mod runs;
mod scene;
