//! Counting runs by how they ended, as their lines are read: so the counts cost the same however long the history is.

use std::collections::BTreeMap;

use crate::run::status::Status;

/// Counts by the numbers of routines.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    ended: BTreeMap<(u32, Status), u64>,
    /// Of runs whose agent started: how many, and how long they took together.
    durations: BTreeMap<u32, (u64, u64)>,
}

impl Tally {
    pub(super) fn count(&mut self, slug: u32, status: Status, duration_secs: Option<u64>) {
        *self.ended.entry((slug, status)).or_default() += 1;
        if let Some(secs) = duration_secs {
            self.add_durations(slug, 1, secs);
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (key, count) in &other.ended {
            *self.ended.entry(*key).or_default() += count;
        }
        for (slug, (count, secs)) in &other.durations {
            self.add_durations(*slug, *count, *secs);
        }
    }

    fn add_durations(&mut self, slug: u32, count: u64, secs: u64) {
        let (counted, together) = self.durations.entry(slug).or_default();
        *counted += count;
        // Only a damaged line has such a number.
        *together = together.saturating_add(secs);
    }

    pub(super) fn ended(&self) -> impl Iterator<Item = (u32, Status, u64)> {
        self.ended.iter().map(|(&(slug, status), &count)| (slug, status, count))
    }

    pub(super) fn durations(&self) -> impl Iterator<Item = (u32, u64, u64)> {
        self.durations.iter().map(|(&slug, &(count, secs))| (slug, count, secs))
    }
}
