//! Counting runs by how they ended, as their lines are read: so the counts cost the same however long the history is.

use std::collections::BTreeMap;

use super::slugs::Slugs;
use crate::routine::slug::Slug;
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

/// How many runs there were, by routine.
pub(crate) struct RunTally<'a> {
    all: Tally,
    slugs: &'a Slugs,
}

impl<'a> RunTally<'a> {
    pub(super) fn of(all: Tally, slugs: &'a Slugs) -> Self {
        Self { all, slugs }
    }

    /// Returns how many ended how.
    pub(crate) fn ended(&self) -> impl Iterator<Item = (&Slug, Status, u64)> {
        self.all.ended().map(|(slug, status, count)| (self.slugs.named(slug), status, count))
    }

    /// Returns how many had an agent that started, and how long these took together.
    pub(crate) fn durations(&self) -> impl Iterator<Item = (&Slug, u64, u64)> {
        self.all.durations().map(|(slug, count, secs)| (self.slugs.named(slug), count, secs))
    }
}
