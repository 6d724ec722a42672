//! Runs on a real Slurm cluster, each test's own. Tests are started in the order of their names: the longest are in the modules that
//! come first, so that none of them is left to wait for at the end.

mod abandoned;
mod attach;
mod continued;
mod controller;
mod doctor;
mod escapees;
mod faults;
mod job_ends;
mod late_records;
mod many;
mod node_files;
mod runs;
mod scene;
mod test_cluster;
