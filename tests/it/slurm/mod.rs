//! Runs on a real Slurm cluster.

mod attach;
mod cluster;
mod doctor;
mod escapees;
mod faults;
mod job_ends;
mod many;
mod runs;
mod scene;
