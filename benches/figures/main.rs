//! The figures of BENCHMARKS.md, each with its baseline measured in the same run, the two taking turns: other programs,
//! real processes and whole homes, which a framework for functions cannot express. Arguments name the rows that are
//! wanted; without one all are measured. Prints rows of a Markdown table.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measurement that cannot go on fails"
)]

mod continued;
mod dashboard;
mod ends;
#[path = "../../tests/it/harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use all of it")]
mod harness;
mod janitor;
mod peer;
mod population;
mod routines;
mod server;
mod slurm;
mod timing;
mod triggers;
mod unsaved;

/// A row's name, and what measures it.
type Row = (&'static str, fn());

const ROWS: [Row; 19] = [
    ("sweep", janitor::sweep),
    ("watchdog", janitor::watchdog),
    ("remove", janitor::remove_expired),
    ("flat", janitor::flat),
    ("lists", server::lists),
    ("continued", continued::continued),
    ("routines", routines::at_rest),
    ("history", server::history),
    ("dashboard", dashboard::open),
    ("calls", server::calls_during_a_sweep),
    ("start", server::start),
    ("peer", peer::peer),
    ("before", peer::before),
    ("trigger", triggers::triggers),
    ("end", ends::ends),
    ("unsaved", unsaved::unsaved),
    ("submission", slurm::submission),
    ("queued", slurm::queued),
    ("look", slurm::look),
];

fn main() {
    let words: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    if let [verb, home] = &words[..]
        && verb == "slurm-pass"
    {
        return slurm::pass(home.as_ref());
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    println!("| work | ours | baseline | result | must reach |\n|---|---|---|---|---|");
    for (name, measure) in ROWS {
        if wanted.is_empty() || wanted.iter().any(|one| one == name) {
            measure();
        }
    }
}
