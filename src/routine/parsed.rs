//! Routines' files as they were last parsed. Lists are asked for again and again, and parsing would be most of their work.
//!
//! For lists only: whatever acts on a routine reads its file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::model::{Definition, Routine};
use super::slug::Slug;
use super::store;
use crate::home::Home;
use crate::home::stamp::Stamp;

/// How many are kept: the longest page of a list and more.
const KEPT: usize = 256;

static PARSED: Mutex<BTreeMap<PathBuf, (Stamp, Definition)>> = Mutex::new(BTreeMap::new());

/// Reads a routine, unless its file is as it was when it was last parsed; `None` if it cannot be read.
pub(super) fn routine(home: &Home, slug: &Slug) -> Option<Routine> {
    let path = store::definition_file(home, slug);
    let stamp = Stamp::of(&path)?;
    let parsed = || PARSED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, definition)) = parsed().get(&path).filter(|(known, _)| *known == stamp) {
        return Some(Routine { slug: slug.clone(), definition: definition.clone() });
    }
    let routine = store::load(home, slug).ok()?;
    if stamp.is_settled(SystemTime::now()) {
        let mut parsed = parsed();
        if parsed.len() >= KEPT {
            parsed.clear();
        }
        parsed.insert(path, (stamp, routine.definition.clone()));
    }
    Some(routine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_file_that_changed_is_read_anew_and_one_that_is_gone_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let slug: Slug = "mine".parse().unwrap();
        let path = store::definition_file(&home, &slug);
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let write = |title: &str, age: u64| {
            std::fs::write(&path, format!("title = '{title}'\nagent = 'claude'\n")).unwrap();
            let file = std::fs::File::options().append(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        };
        let title = || routine(&home, &slug).map(|routine| routine.definition.title);
        // In this order: settled, another settled one of the same size, two fresh ones of the same size.
        for (text, age) in [("one", 100), ("two", 50), ("abc", 0), ("def", 0)] {
            write(text, age);
            assert_eq!(title().as_deref(), Some(text));
            assert_eq!(title().as_deref(), Some(text), "asked again");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(title(), None);
    }
}
