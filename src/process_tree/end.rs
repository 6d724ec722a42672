//! Ending the processes of a run, all of them.
//!
//! First everything is asked to end (TERM), until the grace is over. What is left then is stopped (STOP), pass by pass,
//! until a pass finds nobody new: a stopped process neither forks, nor replaces a child that was killed, nor becomes
//! something else by exec, and it keeps its place in the tree, so that its children are still recognised. Then the
//! frozen tree is killed (KILL), and the end is believed only when two looks in a row find nobody.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::platform::{Newcomers, glimpse};
use super::scan::Listed;
use super::{Cookie, Process, ProcessId, Scan, ScanError};

/// How long the freezing may take, and after it the killing.
const FREEZE_LIMIT: Duration = Duration::from_secs(2);
const KILL_LIMIT: Duration = Duration::from_secs(3);

/// How long one chase of newcomers may take, and how many vain looks for them end it.
const CHASE_LIMIT: Duration = Duration::from_secs(1);
const VAIN_LOOKS: u32 = 50;

/// The pauses between two looks at processes that are on their way out.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Ends the processes of the run with this cookie, and returns those that outlived it: none, but for processes that the
/// system holds on to, and those that became another user's, which are not signalled. It takes at most `grace` and about
/// 5 s; with no grace nobody is asked.
///
/// Those `known` to belong, such as the supervisor, are ended too, except by themselves. `on_pass` is called after each
/// look at the processes, before anybody whom it found is signalled, with all who were ever known to belong.
///
/// # Errors
/// The processes cannot be listed: some may have been signalled, and nothing is known of what is left.
pub fn end_tree(
    cookie: &Cookie,
    known: impl IntoIterator<Item = ProcessId>,
    grace: Duration,
    on_pass: &mut dyn FnMut(&HashSet<ProcessId>),
) -> Result<Vec<Process>, ScanError> {
    let known = known.into_iter().collect();
    let mut hunt =
        Hunt { cookie, known, on_pass, left: Vec::new(), beyond: Vec::new(), empty_looks: 0, stopped: HashSet::new() };
    if !grace.is_zero() && hunt.ask_all(grace)? {
        return Ok(Vec::new());
    }
    let done = hunt.freeze_all().and_then(|()| hunt.kill_all());
    hunt.release_strangers();
    done.map(|()| [hunt.left, hunt.beyond].concat())
}

struct Hunt<'a> {
    cookie: &'a Cookie,
    /// Whoever was ever found to belong: it still does when what it was recognised by is gone.
    known: HashSet<ProcessId>,
    on_pass: &'a mut dyn FnMut(&HashSet<ProcessId>),
    /// Who was left at the last look.
    left: Vec<Process>,
    /// Who was left then and runs as another user: waited for, and never signalled.
    beyond: Vec<Process>,
    /// How many looks in a row found nobody: one can miss a process that hands over to its child, two do not.
    empty_looks: u32,
    /// Who was stopped and not killed.
    stopped: HashSet<ProcessId>,
}

impl Hunt<'_> {
    /// Looks who is left, and returns whether there is nobody whom we could end.
    fn look(&mut self) -> Result<bool, ScanError> {
        (self.left, self.beyond) = Scan::take()?.members_by_user(self.cookie, &self.known);
        self.known.extend(self.left.iter().chain(&self.beyond).map(|process| process.id));
        (self.on_pass)(&self.known);
        self.empty_looks = if self.left.is_empty() { self.empty_looks + 1 } else { 0 };
        Ok(self.empty_looks >= 2)
    }

    fn ask_all(&mut self, grace: Duration) -> Result<bool, ScanError> {
        let started = Instant::now();
        let mut asked = HashSet::new();
        let mut pause = SHORTEST_PAUSE;
        // Those of another user may end by themselves, now that the others are asked to.
        while !(self.look()? && self.beyond.is_empty()) {
            for process in &self.left {
                if asked.insert(process.id) {
                    signal(process.id, Signal::TERM);
                }
            }
            let rest = grace.saturating_sub(started.elapsed());
            if rest.is_zero() {
                return Ok(false);
            }
            std::thread::sleep(pause.min(rest));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Ok(true)
    }

    fn freeze_all(&mut self) -> Result<(), ScanError> {
        let started = Instant::now();
        loop {
            self.chase();
            self.look()?;
            let mut anyone_new = false;
            for process in &self.left {
                if self.stopped.insert(process.id) {
                    anyone_new = true;
                    signal(process.id, Signal::STOP);
                }
            }
            if !anyone_new || started.elapsed() >= FREEZE_LIMIT {
                return Ok(());
            }
        }
    }

    /// Stops what is born and gone faster than a look takes, by looking at newcomers alone until there are none.
    fn chase(&mut self) {
        let started = Instant::now();
        let mut newcomers = Newcomers::from_now();
        let mut vain = 0;
        while vain < VAIN_LOOKS && started.elapsed() < CHASE_LIMIT {
            vain += 1;
            for newcomer in newcomers.pids().filter_map(glimpse) {
                if self.seems_to_belong(&newcomer) {
                    vain = 0;
                    signal(newcomer.process.id, Signal::STOP);
                    self.stopped.insert(newcomer.process.id);
                }
            }
        }
    }

    /// Guesses from one process alone; who was stopped wrongly is released in the end.
    fn seems_to_belong(&self, newcomer: &Listed) -> bool {
        let has_known_parent = || self.known.iter().any(|known| newcomer.parent == Some(known.pid));
        newcomer.ours && newcomer.cookie.as_ref().map_or_else(has_known_parent, |carried| carried == self.cookie)
    }

    fn kill_all(&mut self) -> Result<(), ScanError> {
        let started = Instant::now();
        let mut killed = HashSet::new();
        let mut pause = SHORTEST_PAUSE;
        loop {
            let mut anyone_new = false;
            for process in &self.left {
                if killed.insert(process.id) {
                    anyone_new = true;
                    signal(process.id, Signal::KILL);
                    self.stopped.remove(&process.id);
                }
            }
            if !anyone_new {
                std::thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            if self.look()? || started.elapsed() >= KILL_LIMIT {
                return Ok(());
            }
        }
    }

    /// Lets go whoever was stopped in the moment before it became a process of another run.
    fn release_strangers(&mut self) {
        for id in self.stopped.drain() {
            signal(id, Signal::CONT);
        }
    }
}

/// Sends a signal; whoever cannot be signalled is left over, and reported as such.
fn signal(id: ProcessId, signal: Signal) {
    let _ = id.signal(signal);
}
