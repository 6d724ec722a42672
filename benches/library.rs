//! Library calls over homes with many runs and routines.
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on fails")]

#[allow(dead_code, reason = "the other program uses the rest")]
#[path = "figures/population.rs"]
mod population;

use std::process::Command;

use divan::Bencher;
use moadim_mcp::janitor::sweep;
use moadim_mcp::janitor::watchdog::Forecast;
use moadim_mcp::process_tree::Scan;
use moadim_mcp::{query, routine};
use tempfile::TempDir;

fn main() {
    divan::main();
}

fn filled(runs: u64, routines: u64) -> (TempDir, moadim_mcp::run::context::Context) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap().join("home");
    let context = population::context(&root);
    population::add_retained(&root, runs);
    population::add_routines(&root, routines);
    (directory, context)
}

#[divan::bench(args = [10_000, 100_000], sample_count = 10)]
fn plan_of_a_sweep(bencher: Bencher<'_, '_>, workbenches: u64) {
    let (_directory, context) = filled(workbenches, 0);
    bencher.bench(|| sweep::dry_run(&context, None, &Forecast::default()).unwrap());
}

#[divan::bench(args = [1_000])]
fn list_20_routines(bencher: Bencher<'_, '_>, routines: u64) {
    let (_directory, context) = filled(0, routines);
    bencher.bench(|| routine::listing::list(&context.home, &routine::listing::Filter::default(), None, 20).unwrap());
}

#[divan::bench(args = [10_000])]
fn list_20_runs(bencher: Bencher<'_, '_>, runs: u64) {
    let (_directory, context) = filled(runs, 0);
    bencher.bench(|| query::listing::list(&context, &query::listing::RunFilter::default(), None, 20).unwrap());
}

/// One listing of all processes, of which there are so many more than the machine has anyway.
#[divan::bench(args = [0, 1_000], sample_count = 20)]
fn list_processes(bencher: Bencher<'_, '_>, more: usize) {
    let mut sleepers: Vec<_> = (0..more).map(|_| Command::new("sleep").arg("1000").spawn().unwrap()).collect();
    bencher.bench(|| Scan::take().unwrap());
    for sleeper in &mut sleepers {
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }
}
