//! What a subreaper of ours, such as a supervisor, finds of its run, and ends.
//!
//! Everything that it started is below it, and walking down its own tree costs little, however many other runs there are.
//! A process that carries its cookie elsewhere, such as one that another run's tmux started, shows up in a listing of all
//! processes. Supervisors that need one at the same time share it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::carriers::{carriers, now_ms};
use crate::home::Home;
use crate::process_tree::{
    Cookie, KnownProcesses, Process, ProcessId, Reach, Scan, ScanError, end_tree, members_below,
};

/// How old a listing may be that decides where processes are asked to end. Another one confirms that none is left.
const RECENT_MS: u64 = 1000;

/// How long the listing of another process is waited for before anything is asked to end, and before nothing is said to be left.
const LISTING_TIMEOUT_BEFORE: Duration = Duration::from_secs(2);
const LISTING_TIMEOUT_AFTER: Duration = Duration::from_secs(10);

/// Returns the processes of the run that are left beside this one. Those `known` to belong need not be below it.
///
/// # Errors
/// The processes cannot be listed.
pub fn left(home: &Home, cookie: &Cookie, known: &HashSet<ProcessId>) -> Result<Vec<Process>, ScanError> {
    let known = with_ourselves(known)?;
    let below = members_below(cookie, &known)?;
    if is_elsewhere(home, cookie, &known, now_ms(), LISTING_TIMEOUT_AFTER)? {
        return Ok(Scan::take_twice()?.members(cookie, &known));
    }
    Ok(below)
}

/// Ends the processes of the run but this one, and returns those that outlived it, as [`end_tree`] does.
///
/// # Errors
/// The processes cannot be listed: some may have been signalled, and nothing is known of what is left.
pub fn end(
    home: &Home,
    cookie: &Cookie,
    mut processes: KnownProcesses,
    grace: Duration,
    on_pass: &mut dyn FnMut(&KnownProcesses),
) -> Result<Vec<Process>, ScanError> {
    let began = Instant::now();
    processes.known = with_ourselves(&processes.known)?;
    let recent_ms = now_ms().saturating_sub(RECENT_MS);
    if is_elsewhere(home, cookie, &processes.known, recent_ms, LISTING_TIMEOUT_BEFORE)? {
        return end_tree(cookie, processes, Reach::Everywhere, grace, on_pass);
    }
    let mut latest = processes.clone();
    let survivors = end_tree(cookie, processes, Reach::Below, grace, &mut |processes| {
        latest = processes.clone();
        on_pass(processes);
    })?;
    if survivors.is_empty() && is_elsewhere(home, cookie, &latest.known, now_ms(), LISTING_TIMEOUT_AFTER)? {
        let rest = grace.saturating_sub(began.elapsed());
        return end_tree(cookie, latest, Reach::Everywhere, rest, on_pass);
    }
    Ok(survivors)
}

fn with_ourselves(known: &HashSet<ProcessId>) -> Result<HashSet<ProcessId>, ScanError> {
    let mut known = known.clone();
    known.insert(ProcessId::current()?);
    Ok(known)
}

/// Returns whether a process carries the cookie that is neither known nor below one that is, as of a moment after
/// `since_boot_ms`.
fn is_elsewhere(
    home: &Home,
    cookie: &Cookie,
    known: &HashSet<ProcessId>,
    since_boot_ms: u64,
    timeout: Duration,
) -> Result<bool, ScanError> {
    let mut carriers = carriers(&home.listing_lock(), cookie, since_boot_ms, timeout)?;
    carriers.retain(|id| !known.contains(id) && id.is_alive());
    if carriers.is_empty() {
        return Ok(false);
    }
    let below: HashSet<ProcessId> = members_below(cookie, known)?.into_iter().map(|process| process.id).collect();
    Ok(carriers.iter().any(|id| !below.contains(id) && id.is_alive()))
}
