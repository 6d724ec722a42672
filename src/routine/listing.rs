//! Which routines there are, by slug.

use super::model::{Definition, Routine};
use super::slug::Slug;
use super::store;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::home::file_cache::FileCache;

/// Which routines are wanted; all by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those whose slug or title contains this, in any case.
    pub query: Option<String>,
    /// Those with this tag.
    pub tag: Option<String>,
}

impl Filter {
    fn takes_all(&self) -> bool {
        self.query.is_none() && self.tag.is_none()
    }

    fn takes(&self, routine: &Routine) -> bool {
        let named = self.query.as_ref().is_none_or(|query| {
            let query = query.to_lowercase();
            routine.slug.as_str().contains(&query) || routine.definition.title.to_lowercase().contains(&query)
        });
        named && self.tag.as_ref().is_none_or(|tag| routine.definition.tags.contains(tag))
    }
}

/// A part of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Those of the page that can be read.
    pub routines: Vec<Routine>,
    /// How many there are in all; without a filter, unreadable ones included.
    pub total: usize,
    /// The routine after which the next page begins, if there is one.
    pub next: Option<Slug>,
}

/// Lists up to `limit` of the routines that come after `after`. Without a filter only these are read.
pub fn list(home: &Home, filter: &Filter, after: Option<&Slug>, limit: usize) -> Result<Page, FileError> {
    let mut slugs = store::slugs(home)?;
    if filter.takes_all() {
        let total = slugs.len();
        slugs.retain(|slug| after.is_none_or(|after| slug > after));
        let next = (slugs.len() > limit).then(|| slugs[limit - 1].clone());
        slugs.truncate(limit);
        let routines = slugs.iter().filter_map(|slug| load_for_looking(home, slug)).collect();
        return Ok(Page { routines, total, next });
    }
    // There may be very many, so that only those of the page are kept.
    let (mut routines, mut total, mut is_last_page) = (Vec::new(), 0, true);
    for slug in &slugs {
        let Some(routine) = load_for_looking(home, slug).filter(|routine| filter.takes(routine)) else { continue };
        total += 1;
        if after.is_some_and(|after| slug <= after) {
            continue;
        }
        if routines.len() < limit {
            routines.push(routine);
        } else {
            is_last_page = false;
        }
    }
    let next = routines.last().map(|last: &Routine| last.slug.clone()).filter(|_| !is_last_page);
    Ok(Page { routines, total, next })
}

/// Reads a routine, from a file that did not change as it was last parsed; `None` if it cannot be read.
fn load_for_looking(home: &Home, slug: &Slug) -> Option<Routine> {
    static PARSED: FileCache<Definition> = FileCache::new();
    let read = || store::load(home, slug).map(|routine| routine.definition);
    let definition = PARSED.get(&store::definition_file(home, slug), read).ok()??;
    Some(Routine { slug: slug.clone(), definition })
}
