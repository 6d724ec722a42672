//! Ending many live runs at one moment: nothing is left of any, and each is recorded.

use serde_json::json;

use crate::harness::{Server, TestHome};
use crate::population;
use crate::server::at_rest;
use crate::timing::{Times, row};

/// The runs of one routine, less than the names that it can give out within a minute.
const RUNS_OF_EACH: usize = 50;
/// From `delete_routine` of all routines at once until no run is left, for few runs and for many.
pub fn ends() {
    let mut secs = Vec::new();
    for (count, must) in [(100, ""), (1_000, "<= 30 s")] {
        let mut times = Times::default();
        end(count, &mut times);
        secs.push(times.median() / 1e3);
        let shown = format!("{:.1} s", secs[secs.len() - 1]);
        row(&format!("{count} live runs ended at once, until all are recorded"), &shown, "", &shown, must);
    }
    row("the same, 1,000 against 100", "", "", &format!("{:.1}x", secs[1] / secs[0]), "linear: 10x");
}

fn end(count: usize, times: &mut Times) {
    let home = TestHome::with_config("session_host = \"detached\"\n");
    population::context(&home.root());
    home.add_agent("shell", "command = \"sh\"\nlogin_shell = false\n");
    let mut server = at_rest(Server::start(&home));
    let routines: Vec<String> = (0..count / RUNS_OF_EACH).map(|n| format!("many-{n}")).collect();
    for routine in &routines {
        server.create(routine, "exec sleep 100000", json!({}));
    }
    for _ in 0..RUNS_OF_EACH {
        for routine in &routines {
            server.ok("trigger_routine", json!({ "routine": routine, "overlap": "allow" }));
        }
    }
    let unfinished = || std::fs::read_dir(home.root().join("running")).unwrap().count();
    assert_eq!(unfinished(), count);
    let answers = times.measure(|| {
        let end = |routine| server.send_call("delete_routine", json!({ "routine": routine, "confirm": true }));
        let calls: Vec<u64> = routines.iter().map(end).collect();
        calls.into_iter().map(|call| server.tool_answer(call).ok()).collect::<Vec<_>>()
    });
    assert_eq!(unfinished(), 0);
    let ended: usize = answers.iter().map(|answer| answer["stopped"].as_array().unwrap().len()).sum();
    assert_eq!((ended, home.whole_history().len()), (count, count));
}
