//! Ending the processes of a run, all of them.
//!
//! First everything is asked to end (TERM), until the grace is over. What is left then is stopped (STOP), pass by pass,
//! until a pass finds nothing new: a stopped process neither forks, nor replaces a child that was killed, nor becomes
//! something else by exec, and it keeps its place in the tree, so that its children are still recognised. Then the
//! frozen tree is killed (KILL), and the end is believed only when two checks in a row find nothing.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::listed::{Listed, Mark};
use super::platform::{Newcomers, glimpse};
use super::{Cookie, KnownProcesses, Process, ProcessId, Scan, ScanError};

/// How long the freezing may take, and after it the killing.
const FREEZE_LIMIT: Duration = Duration::from_secs(2);
const KILL_LIMIT: Duration = Duration::from_secs(3);

/// How long newcomers are stopped at a time, and how many looks that find none end it.
const NEWCOMERS_LIMIT: Duration = Duration::from_secs(1);
const FRUITLESS_LOOKS: u32 = 50;

/// The pauses between two looks at processes that are on their way out.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Where the processes of a run are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Among all processes.
    Everywhere,
    /// Among those that are known, and below them, which costs little however many others there are. A subreaper that knows
    /// itself finds all that it ever started, but nothing that another one's daemon started for it.
    Below,
}

/// Ends the processes of the run with this cookie, and returns those that outlived it: none, but for processes that the
/// system holds on to, and those that became another user's, which are not signalled. It takes at most `grace` and about
/// 5 s; without a grace there is no TERM, and no process ever gets two.
///
/// Those that are known, such as the supervisor, are ended too, except by themselves. `on_pass` is called after each look at
/// the processes, before a process that it found is signalled, with all that are known by then, and all that were asked or
/// will be right after it.
///
/// # Errors
/// The processes cannot be listed: some may have been signalled, and nothing is known of what is left.
pub fn end_tree(
    cookie: &Cookie,
    processes: KnownProcesses,
    reach: Reach,
    grace: Duration,
    on_pass: &mut dyn FnMut(&KnownProcesses),
) -> Result<Vec<Process>, ScanError> {
    let mut tree = Tree {
        cookie,
        processes,
        reach,
        on_pass,
        left: Vec::new(),
        beyond: Vec::new(),
        empty_looks: 0,
        stopped: HashSet::new(),
    };
    if !grace.is_zero() && tree.term_all(grace)? {
        return Ok(Vec::new());
    }
    let done = tree.freeze_all().and_then(|()| tree.kill_all());
    tree.release_others();
    done.map(|()| [tree.left, tree.beyond].concat())
}

struct Tree<'a> {
    cookie: &'a Cookie,
    processes: KnownProcesses,
    reach: Reach,
    on_pass: &'a mut dyn FnMut(&KnownProcesses),
    /// Those left at the last look.
    left: Vec<Process>,
    /// Those left then that run as another user: waited for, and never signalled.
    beyond: Vec<Process>,
    /// How many looks in a row found none: one can miss a process that hands over to its child, two do not.
    empty_looks: u32,
    /// Those that were stopped and not killed.
    stopped: HashSet<ProcessId>,
}

impl Tree<'_> {
    /// Looks what is left, and returns whether there is none that we could end.
    fn look(&mut self) -> Result<bool, ScanError> {
        self.look_and_note(|_, _| {})
    }

    /// Looks, and lets `note` add to what is known before `on_pass` sees it.
    fn look_and_note(&mut self, note: impl FnOnce(&mut KnownProcesses, &[Process])) -> Result<bool, ScanError> {
        let scan = match self.reach {
            Reach::Everywhere => Scan::take()?,
            Reach::Below => Scan::take_below(&self.processes.known)?,
        };
        (self.left, self.beyond) = scan.members_by_user(self.cookie, &self.processes.known);
        self.processes.known.extend(self.left.iter().chain(&self.beyond).map(|process| process.id));
        note(&mut self.processes, &self.left);
        (self.on_pass)(&self.processes);
        self.empty_looks = if self.left.is_empty() { self.empty_looks + 1 } else { 0 };
        Ok(self.empty_looks >= 2)
    }

    fn term_all(&mut self, grace: Duration) -> Result<bool, ScanError> {
        let started = Instant::now();
        let mut pause = SHORTEST_PAUSE;
        loop {
            let mut to_ask = Vec::new();
            let none_is_left = self.look_and_note(|processes, left| {
                to_ask.extend(left.iter().map(|process| process.id).filter(|id| processes.asked.insert(*id)));
            })?;
            // Those of another user may end by themselves, now that the others are asked to.
            if none_is_left && self.beyond.is_empty() {
                return Ok(true);
            }
            to_ask.into_iter().for_each(|id| signal(id, Signal::TERM));
            let rest = grace.saturating_sub(started.elapsed());
            if rest.is_zero() {
                return Ok(false);
            }
            std::thread::sleep(pause.min(rest));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn freeze_all(&mut self) -> Result<(), ScanError> {
        let started = Instant::now();
        loop {
            self.stop_newcomers();
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
    fn stop_newcomers(&mut self) {
        let started = Instant::now();
        let mut newcomers = Newcomers::from_now();
        let mut fruitless = 0;
        while fruitless < FRUITLESS_LOOKS && started.elapsed() < NEWCOMERS_LIMIT {
            fruitless += 1;
            for newcomer in newcomers.pids().filter_map(|pid| glimpse(pid).ok().flatten()) {
                if self.seems_to_belong(&newcomer) {
                    fruitless = 0;
                    signal(newcomer.process.id, Signal::STOP);
                    self.stopped.insert(newcomer.process.id);
                }
            }
        }
    }

    /// Guesses from one process alone; one that was stopped wrongly is released in the end.
    fn seems_to_belong(&self, newcomer: &Listed) -> bool {
        let has_known_parent = || self.processes.known.iter().any(|known| newcomer.parent == Some(known.pid));
        let belongs = match newcomer.mark {
            Mark::Cookie(carried) => carried == *self.cookie,
            Mark::Missing | Mark::Hidden | Mark::Unsettled => has_known_parent(),
        };
        newcomer.ours && belongs
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

    /// Continues those that were stopped in the moment before they became another run's.
    fn release_others(&mut self) {
        for id in self.stopped.drain() {
            signal(id, Signal::CONT);
        }
    }
}

/// Sends a signal; a process that cannot be signalled is left over, and reported as such.
fn signal(id: ProcessId, signal: Signal) {
    let _ = id.signal(signal);
}
