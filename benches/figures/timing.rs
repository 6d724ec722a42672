//! Times, and what is said of many of them.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Times of one kind of work, in the order measured.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Measures some work once more, and returns what it made.
    pub fn measure<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let made = work();
        self.0.push(begun.elapsed());
        made
    }

    /// Returns how many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the time that `percent` of all are at most, in milliseconds.
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort();
        let last = sorted.len().saturating_sub(1);
        sorted.get((last * percent).div_ceil(100)).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }

    /// Returns the median in milliseconds.
    pub fn median(&self) -> f64 {
        self.percentile(50)
    }
}

/// Prints a row of the table.
pub fn row(work: &str, ours: &str, baseline: &str, result: &str, must: &str) {
    println!("| {work} | {ours} | {baseline} | {result} | {must} |");
}

/// Prints a row whose figure is the ratio of two medians.
pub fn row_of_ratio(work: &str, ours: &Times, baseline: &Times, must: &str) {
    let shown =
        |times: &Times| format!("{:.2} ms (p99 {:.2}, n {})", times.median(), times.percentile(99), times.count());
    row(work, &shown(ours), &shown(baseline), &format!("{:.2}x", ours.median() / baseline.median()), must);
}

/// Runs a command to its end, which must be a good one.
pub fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.as_ref().is_ok_and(std::process::ExitStatus::success), "{command:?}: {status:?}");
}

/// Returns a figure of a process from `/proc/<pid>/status` in MiB; `None` where there is no such thing.
pub fn memory_mib(pid: u32, figure: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? / 1024.0)
}

/// How the system counts processor time towards programs, on every Linux.
const TICKS_PER_SECOND: u64 = 100;

/// Returns the processor time that a process has used so far; `None` where the system does not tell.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_the_name = stat.rsplit_once(')')?.1;
    let ticks: u64 =
        after_the_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}
