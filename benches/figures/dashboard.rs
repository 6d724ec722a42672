//! What an open dashboard costs: 1,000 routines, 100,000 lines of history of the last four weeks, and a page that listens and polls.

use std::thread::sleep;
use std::time::{Duration, Instant};

use moadim_mcp::home::Home;
use serde_json::{Map, Value, json};

use crate::harness::{Dashboard, TestHome};
use crate::population;
use crate::timing::{Times, cpu_time, memory_mib, row};

const WATCHED: Duration = Duration::from_secs(60);
/// How often the page asks though nothing changed.
const PAGE_PAUSE: Duration = Duration::from_secs(30);
const POLLS: usize = 50;

pub fn open() {
    let home = TestHome::detached("");
    population::context(&home.root());
    population::add_scheduled_routines(&home.root(), 1_000);
    population::add_weeks_of_history(&home.root(), 100_000);
    let dashboard = Dashboard::start(&home);
    let _events = dashboard.events();
    let mut page = Page { dashboard: &dashboard, known: Map::new() };
    let first = page.poll_for(1);
    say("first `dashboard_data`, 1,000 routines, 100,000 lines", &first, "");
    // What is measured once a minute is over by then.
    sleep(Duration::from_secs(5));
    page.poll_for(1);
    say("the same, unchanged", &page.poll_for(POLLS), "<= 200 B");

    let (before, began) = (cpu_time(dashboard.pid()), Instant::now());
    while began.elapsed() < WATCHED {
        page.poll_for(1);
        sleep(PAGE_PAUSE.min(WATCHED.saturating_sub(began.elapsed())));
    }
    let used = cpu_time(dashboard.pid()).zip(before).map(|(after, before)| after - before);
    let share = used.map_or(f64::NAN, |used| used.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0);
    row("processor of an open dashboard at rest", &format!("{share:.2} % of a core"), "", "", "");
    let [resident, most] = ["VmRSS", "VmHWM"].map(|figure| memory_mib(dashboard.pid(), figure).unwrap_or(f64::NAN));
    row("its memory", &format!("{resident:.1} MiB; {most:.1} MiB at most so far"), "", "", "");

    let live = population::add_live(&Home::open(home.root()).unwrap(), 3);
    page.poll_for(1);
    say("a poll that three live runs changed", &page.poll_without("live", POLLS), "about 1 KiB");
    drop(live);
}

/// What a page does: it names the versions that it has.
struct Page<'a> {
    dashboard: &'a Dashboard,
    known: Map<String, Value>,
}

impl Page<'_> {
    /// Polls so many times; returns how long each took, and the size of the largest answer.
    fn poll_for(&mut self, times: usize) -> (Times, usize) {
        self.poll_without("", times)
    }

    /// The same, with one part as if it had changed.
    fn poll_without(&mut self, part: &str, times: usize) -> (Times, usize) {
        let (mut took, mut most) = (Times::default(), 0);
        for _ in 0..times {
            self.known.remove(part);
            let arguments = json!({ "known": self.known });
            let answer = took.measure(|| self.dashboard.post("/api/tools/dashboard_data", &arguments));
            most = most.max(answer.body.len());
            for (part, data) in answer.ok()["parts"].as_object().unwrap() {
                self.known.insert(part.clone(), data["version"].clone());
            }
        }
        (took, most)
    }
}

fn say(work: &str, (took, bytes): &(Times, usize), must: &str) {
    let ours = format!("{:.1} ms (p99 {:.1}, n {}), {bytes} B", took.median(), took.percentile(99), took.count());
    row(work, &ours, "", "", must);
}
