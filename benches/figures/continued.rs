//! What runs that others continued cost those that have nothing to do with them.

use std::time::{Duration, Instant};

use moadim_mcp::janitor::sweep;
use serde_json::json;

use crate::harness::{Server, TestHome};
use crate::population;
use crate::server::at_rest;
use crate::timing::{Times, row_of_ratio};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// How many workbenches saw a second run.
const CONTINUED: u64 = 1_000;

/// A sweep that removes 1,000 others, and a list of 200 others, against the same without them.
pub fn continued() {
    let (mut beside, mut alone) = (Times::default(), Times::default());
    for _ in 0..5 {
        for (times, continued) in [(&mut beside, CONTINUED), (&mut alone, 0)] {
            let home = TestHome::new();
            let context = population::context(&home.root());
            population::add_continued(&home.root(), continued);
            population::add_expired(&home.root(), 1_000, 1);
            let report = times.measure(|| sweep::sweep(&context, None, Instant::now() + HOUR, &mut |_| {}).unwrap());
            assert_eq!((report.removed.len(), report.kept.len() as u64), (1_000, continued));
        }
    }
    let work =
        format!("sweep that removes 1,000 workbenches, beside {CONTINUED} with two runs each, against beside none");
    row_of_ratio(&work, &beside, &alone, "");
    let (mut beside, mut alone) = (Times::default(), Times::default());
    let mut filled = [CONTINUED, 0].map(|continued| {
        let home = TestHome::detached("");
        population::context(&home.root());
        population::add_continued(&home.root(), continued);
        population::add_retained(&home.root(), 1_000);
        let server = at_rest(Server::start(&home));
        (server, home)
    });
    for _ in 0..50 {
        for ((server, _), times) in filled.iter_mut().zip([&mut beside, &mut alone]) {
            let answer = times.measure(|| server.ok("list_runs", json!({ "limit": 200 })));
            assert_eq!(answer["runs"].as_array().unwrap().len(), 200);
        }
    }
    let work = format!(
        "`list_runs`, 200 of 3,000, {CONTINUED} workbenches with two runs each, against 200 of 1,000 without such"
    );
    row_of_ratio(&work, &beside, &alone, "");
}
