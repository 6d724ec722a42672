//! What many routines cost: the first `health` of a server, and the server at rest.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Server, TestHome, wait_for};
use crate::population;
use crate::timing::{cpu_time, memory_mib, row};

/// How long a server at rest is watched: several rounds of the scheduler over all routines.
const WATCHED: Duration = Duration::from_secs(60);

/// With every other routine scheduled, none of them due, and a client that listens for changes of the lists.
pub fn at_rest() {
    let mut shares = Vec::new();
    for count in [1_000, 10_000, 50_000] {
        let home = TestHome::detached("");
        population::context(&home.root());
        population::add_scheduled_routines(&home.root(), count);
        let mut server = Server::start(&home);
        let asked = Instant::now();
        let health = server.ok("health", json!({}));
        let took = asked.elapsed();
        assert_eq!((&health["routines"], &health["problems_total"]), (&json!(count), &json!(0)), "{health}");
        row(
            &format!("first `health`, {count} routines"),
            &format!("{:.0} ms", took.as_secs_f64() * 1e3),
            "",
            "",
            "<= 1 s",
        );
        let mut again = Vec::new();
        for _ in 0..5 {
            let asked = Instant::now();
            server.ok("health", json!({}));
            again.push(asked.elapsed());
        }
        again.sort();
        row(
            &format!("`health` after that, {count} routines"),
            &format!("{:.0} ms", again[2].as_secs_f64() * 1e3),
            "",
            "",
            "",
        );
        server.request("resources/list", json!({})).unwrap();
        wait_for(Duration::from_secs(120), "the first passes", || {
            let health = server.ok("health", json!({}));
            let are_over = ["scheduler", "sweep", "watchdog"].iter().all(|duty| health[duty]["last"].is_string());
            are_over.then_some(())
        });
        std::thread::sleep(Duration::from_secs(5));
        let (before, began) = (cpu_time(server.pid()), Instant::now());
        std::thread::sleep(WATCHED);
        let used = cpu_time(server.pid()).zip(before).map(|(after, before)| after - before);
        let share = used.map_or(f64::NAN, |used| used.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0);
        row(&format!("processor at rest, {count} routines"), &format!("{share:.2} % of a core"), "", "", "<= 1 %");
        let [resident, most] = ["VmRSS", "VmHWM"].map(|figure| memory_mib(server.pid(), figure).unwrap_or(f64::NAN));
        row(
            &format!("resident at rest, {count} routines"),
            &format!("{resident:.1} MiB; {most:.1} MiB at most so far"),
            "",
            "",
            "<= 40 MiB",
        );
        shares.push(share);
    }
    row(
        "processor at rest, 50,000 routines against 1,000",
        "",
        "",
        &format!("{:.1}x", shares[2] / shares[0]),
        "less than linear: 50x",
    );
}
