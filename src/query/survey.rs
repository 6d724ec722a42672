//! Everything that changed in the home since the last look, for clients that do not name what to watch.
//!
//! A home may have thousands of routines and workbenches. So only runs that are not over are looked at one by one; the rest is
//! found by comparing lists, which are made again when their folder has changed, and routines by what is known of all of them.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::changes::{Observer, Topic};
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::home::file_cache::Stamp;
use crate::routine::known::{Known, KnownRoutines, Look};
use crate::routine::prompt;
use crate::routine::slug::Slug;
use crate::routine::zone::MachineMark;
use crate::run::entry::Entry;
use crate::run::id::RunId;
use crate::run::on_disk;
use crate::run::pin;

/// Remembers what was seen at the last look.
#[derive(Debug)]
pub struct Survey {
    home: Home,
    routines: Arc<KnownRoutines>,
    observer: Observer,
    seen: Option<Seen>,
    prompts: Prompts,
}

#[derive(Debug)]
struct Seen {
    live: BTreeSet<RunId>,
    pins: Listing,
    workbenches: Listing,
    known: Arc<Known>,
    of_all: OfAll,
}

/// What the times of all routines depend on: the home's snooze, the agents' holds, the machine's zone.
type OfAll = (Option<Stamp>, Option<Stamp>, MachineMark);

/// The runs that a folder names, and the folder's state when they were listed.
#[derive(Debug, Default)]
struct Listing {
    /// `None` if a change since would not show.
    stamp: Option<Stamp>,
    runs: BTreeSet<RunId>,
}

impl Listing {
    /// Lists a folder, unless it is as it was. One that cannot be listed now has not changed because of that.
    fn of(
        folder: PathBuf,
        before: Option<&Self>,
        list: impl FnOnce() -> Result<BTreeSet<RunId>, FileError>,
    ) -> Option<Self> {
        let stamp = Stamp::of(&folder);
        if before.is_some_and(|before| before.stamp.is_some() && before.stamp == stamp) {
            return None;
        }
        let settled = stamp.filter(|stamp| stamp.is_settled(SystemTime::now()));
        Some(Self { stamp: settled, runs: list().ok()? })
    }
}

impl Survey {
    pub fn new(home: Home, routines: Arc<KnownRoutines>) -> Self {
        let observer = Observer::new(home.clone(), Arc::clone(&routines));
        Self { home, routines, observer, seen: None, prompts: Prompts::default() }
    }

    /// Looks at everything, and returns what changed since the last look; nothing at the first.
    pub fn look(&mut self) -> BTreeSet<Topic> {
        let Ok(entries) = Entry::list(&self.home) else { return BTreeSet::new() };
        let live: BTreeSet<RunId> = entries.iter().map(|entry| entry.id().clone()).collect();
        let mut topics = BTreeSet::from([Topic::Lists, Topic::Health, Topic::Usage]);
        topics.extend(live.iter().flat_map(|run| [Topic::Run(run.clone()), Topic::Log(run.clone())]));
        let mut changed = self.observer.look(&topics);
        if self.routines.are_many()
            && let Err(error) = self.routines.refresh(&self.home, Look::Share)
        {
            tracing::debug!(%error, "routines were not looked at");
        }
        let known = self.routines.known();
        changed.extend(self.prompts.look(&self.home, &known));
        let now = Found {
            live,
            pins: Listing::of(self.home.pins(), self.seen.as_ref().map(|seen| &seen.pins), || pin::list(&self.home)),
            workbenches: Listing::of(self.home.workbenches(), self.seen.as_ref().map(|seen| &seen.workbenches), || {
                Ok(on_disk::ids_with_workbench(&self.home)?.into_iter().collect())
            }),
            known,
            of_all: (Stamp::of(&self.home.snooze_file()), Stamp::of(&self.home.holds()), MachineMark::now()),
        };
        match &mut self.seen {
            Some(seen) => {
                changed.extend(seen.replace(now));
                changed
            }
            None => {
                self.seen = Some(now.into());
                BTreeSet::new()
            }
        }
    }
}

/// What a look finds.
struct Found {
    live: BTreeSet<RunId>,
    /// `None` where the folder is as it was.
    pins: Option<Listing>,
    workbenches: Option<Listing>,
    known: Arc<Known>,
    of_all: OfAll,
}

impl From<Found> for Seen {
    fn from(Found { live, pins, workbenches, known, of_all }: Found) -> Self {
        let (pins, workbenches) = (pins.unwrap_or_default(), workbenches.unwrap_or_default());
        Self { live, pins, workbenches, known, of_all }
    }
}

impl Seen {
    /// Notes what a look found, and returns what is different.
    fn replace(&mut self, now: Found) -> BTreeSet<Topic> {
        let mut changed = BTreeSet::new();
        for run in self.live.symmetric_difference(&now.live) {
            changed.extend([Topic::Run(run.clone()), Topic::Log(run.clone()), Topic::Routine(run.routine().clone())]);
        }
        self.live = now.live;
        if let Some(pins) = now.pins {
            changed.extend(self.pins.runs.symmetric_difference(&pins.runs).cloned().map(Topic::Run));
            self.pins = pins;
        }
        if let Some(workbenches) = now.workbenches {
            for run in self.workbenches.runs.symmetric_difference(&workbenches.runs) {
                changed.extend([Topic::Run(run.clone()), Topic::Routine(run.routine().clone())]);
            }
            self.workbenches = workbenches;
        }
        if !Arc::ptr_eq(&self.known, &now.known) {
            changed.extend(differing(&self.known, &now.known).map(Topic::Routine));
            self.known = now.known;
        }
        if self.of_all != now.of_all {
            changed.insert(Topic::Lists);
            self.of_all = now.of_all;
        }
        changed
    }
}

/// Returns the routines that only one of the two has, or whose definition or ledger differs.
fn differing(before: &Known, now: &Known) -> impl Iterator<Item = Slug> {
    let mut slugs = Vec::new();
    let (mut old, mut new) = (before.summaries.iter().peekable(), now.summaries.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some(old), Some(new)) => old.slug().cmp(new.slug()),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => break,
        };
        let was = if order.is_le() { old.next() } else { None };
        let is = if order.is_ge() { new.next() } else { None };
        match (was, is) {
            (Some(was), Some(is)) if Arc::ptr_eq(was, is) || was.is_of_same_files(is) => {}
            (Some(one), _) | (None, Some(one)) => slugs.push(one.slug().clone()),
            (None, None) => {}
        }
    }
    slugs.into_iter()
}

/// The prompts, which are looked at in turn after the first time: few are edited alone.
#[derive(Debug, Default)]
struct Prompts {
    seen: HashMap<Slug, Option<Stamp>>,
    cursor: usize,
}

/// How many prompts are looked at at a time.
const PROMPTS_PER_LOOK: usize = 100;

impl Prompts {
    /// Looks at some of them, and returns whose were edited since the last time that they were looked at.
    fn look(&mut self, home: &Home, known: &Known) -> Vec<Topic> {
        let summaries = &known.summaries;
        let start = if self.cursor < summaries.len() { self.cursor } else { 0 };
        let count = if self.seen.is_empty() { summaries.len() } else { PROMPTS_PER_LOOK };
        let end = (start + count).min(summaries.len());
        self.cursor = end;
        if start == 0 && self.seen.len() > summaries.len() {
            self.seen.retain(|slug, _| summaries.binary_search_by_key(&slug, |summary| summary.slug()).is_ok());
        }
        let mut changed = Vec::new();
        for summary in &summaries[start..end] {
            let slug = summary.slug();
            let stamp = Stamp::of(&prompt::file(home, slug));
            match self.seen.insert(slug.clone(), stamp) {
                Some(before) if before != stamp => changed.push(Topic::Routine(slug.clone())),
                _ => {}
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routine::store;
    use crate::run::workbench::Workbench;
    use std::fs;

    struct Fixture {
        _dir: tempfile::TempDir,
        home: Home,
        survey: Survey,
    }

    fn run(id: &str) -> RunId {
        id.parse().unwrap()
    }

    fn slug(text: &str) -> Slug {
        text.parse().unwrap()
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let home = Home::open(dir.path().join("home")).unwrap();
            let survey = Survey::new(home.clone(), Arc::default());
            Self { _dir: dir, home, survey }
        }

        /// Looks until nothing more is seen to change: what was just written is looked at again.
        fn settle(&mut self) -> BTreeSet<Topic> {
            let mut all = BTreeSet::new();
            loop {
                let changed = self.survey.look();
                if changed.is_empty() {
                    return all;
                }
                all.extend(changed);
            }
        }

        fn write_routine(&self, name: &str, definition: &str) {
            let directory = self.home.routines().join(name);
            let _ = fs::create_dir(&directory);
            fs::write(store::definition_file(&self.home, &slug(name)), definition).unwrap();
            fs::write(prompt::file(&self.home, &slug(name)), "do it").unwrap();
        }
    }

    #[test]
    fn the_first_look_tells_nothing_and_the_life_of_a_run_is_told_without_asking() {
        let mut it = Fixture::new();
        it.write_routine("a", "title = 'A'\nagent = 'claude'");
        assert_eq!(it.settle(), BTreeSet::new());
        let (of_run, log, routine) = (Topic::Run(run("a-7")), Topic::Log(run("a-7")), Topic::Routine(slug("a")));

        let workbench = Workbench::of(&it.home, &run("a-7"));
        fs::create_dir(it.home.running().join("a-7")).unwrap();
        fs::create_dir(workbench.directory()).unwrap();
        let changed = it.settle();
        for topic in [Topic::Lists, of_run.clone(), routine.clone()] {
            assert!(changed.contains(&topic), "{topic:?} in {changed:?}");
        }
        fs::write(workbench.log(), "one\n").unwrap();
        assert_eq!(it.settle(), BTreeSet::from([log.clone()]));

        fs::write(workbench.outcome_file(), "{}").unwrap();
        fs::rename(it.home.running().join("a-7"), it.home.trash().join("a-7.x")).unwrap();
        let changed = it.settle();
        for topic in [Topic::Lists, of_run.clone(), log, routine.clone()] {
            assert!(changed.contains(&topic), "{topic:?} in {changed:?}");
        }
        pin::pin(&it.home, &run("a-7")).unwrap();
        assert!(it.settle().contains(&of_run));
        fs::rename(workbench.directory(), it.home.trash().join("a-7.y")).unwrap();
        let changed = it.settle();
        assert!(
            changed.contains(&of_run) && changed.contains(&routine) && changed.contains(&Topic::Lists),
            "{changed:?}"
        );
    }

    #[test]
    fn only_the_routine_that_changed_is_told() {
        let mut it = Fixture::new();
        for name in ["a", "b", "c"] {
            it.write_routine(name, "title = 'A'\nagent = 'claude'");
        }
        it.settle();
        let routines = |changed: BTreeSet<Topic>| -> Vec<Topic> {
            changed.into_iter().filter(|topic| matches!(topic, Topic::Routine(_))).collect()
        };
        it.write_routine("b", "title = 'Another'\nagent = 'claude'");
        assert_eq!(routines(it.settle()), [Topic::Routine(slug("b"))]);
        fs::write(prompt::file(&it.home, &slug("c")), "do something else").unwrap();
        assert_eq!(routines(it.settle()), [Topic::Routine(slug("c"))]);
        fs::write(it.home.routines().join("a/ledger.json"), "{\"version\":1,\"fired_until\":\"2030-01-01T00:00:00Z\"}")
            .unwrap();
        assert_eq!(routines(it.settle()), [Topic::Routine(slug("a"))]);
        fs::remove_dir_all(it.home.routines().join("a")).unwrap();
        it.write_routine("d", "title = 'D'\nagent = 'claude'");
        assert_eq!(routines(it.settle()), [Topic::Routine(slug("a")), Topic::Routine(slug("d"))]);
        fs::write(it.home.snooze_file(), "{}").unwrap();
        assert_eq!(it.settle(), BTreeSet::from([Topic::Lists, Topic::Health]));
    }
}
