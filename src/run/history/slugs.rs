//! The names of routines by number.

use std::collections::HashMap;

use crate::routine::slug::Slug;

/// The names of routines, so that a line needs only a number.
#[derive(Debug, Default)]
pub(super) struct Slugs {
    all: Vec<Slug>,
    numbers: HashMap<Slug, u32>,
}

impl Slugs {
    /// Returns the number of a name, which may be new; `None` if it is no name of a routine.
    pub(super) fn number(&mut self, slug: &str) -> Option<u32> {
        if let Some(number) = self.numbers.get(slug) {
            return Some(*number);
        }
        let number = u32::try_from(self.all.len()).ok()?;
        let slug: Slug = slug.parse().ok()?;
        self.all.push(slug.clone());
        self.numbers.insert(slug, number);
        Some(number)
    }

    /// Returns the name of a number that a line has.
    pub(super) fn named(&self, number: u32) -> &Slug {
        &self.all[number as usize]
    }

    /// Returns the number of a name that a line has.
    pub(super) fn find(&self, slug: &Slug) -> Option<u32> {
        self.numbers.get(slug).copied()
    }

    /// Returns how many names there are; their numbers are below that.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}
