//! Recording the processes that only their supervisor recognises, so that a later judge knows them.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::home::Home;
use crate::process_tree::{KnownProcesses, ProcessId, unmarked_descendants};
use crate::run::entry::Entry;
use crate::run::record::Manifest;
use crate::run::this_machine::Here;

/// The pause between two walks down the tree. Children end far more often than that under a busy agent; outside Linux a walk is a
/// listing of all processes.
const PAUSE: Duration = Duration::from_secs(if cfg!(target_os = "linux") { 1 } else { 10 });

/// What is written down, and since when.
#[derive(Debug, Default)]
pub(super) struct Unmarked {
    written: HashSet<ProcessId>,
    looked: Option<Instant>,
}

impl Unmarked {
    /// Returns those that were written down.
    pub(super) fn written(&self) -> &HashSet<ProcessId> {
        &self.written
    }

    /// Looks at what is below the supervisor, and writes down those without the cookie, if that has changed.
    pub(super) fn look(&mut self, home: &Home, entry: &Entry, manifest: &Manifest) {
        if self.looked.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        self.looked = Some(Instant::now());
        // Processes that cannot be listed now are listed in a second.
        let Ok(mut unmarked) = unmarked_descendants(&manifest.cookie) else { return };
        // They belong for as long as they live, also where the parents that showed it are gone.
        unmarked.extend(self.written.iter().filter(|process| process.is_alive()));
        if unmarked == self.written {
            return;
        }
        let record = Here::of(home).processes_record(KnownProcesses::of(unmarked.iter().copied()));
        match entry.set_processes(&record) {
            Ok(()) => self.written = unmarked,
            Err(error) => tracing::debug!(%error, "processes without the cookie are not on disk"),
        }
    }
}
