//! What changed in the home since the last look, whichever process changed it.
//!
//! Polling a few files was chosen over file notifications: it works on every file system, costs a handful of `stat` calls while a
//! client is subscribed and nothing otherwise, and limits how often one thing is reported.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::home::Home;
use crate::home::mark::Mark;
use crate::routine::known::{KnownRoutines, Look, Revision};
use crate::routine::ledger::Ledger;
use crate::routine::prompt;
use crate::routine::slug::Slug;
use crate::routine::store;
use crate::routine::zone::MachineMark;
use crate::run::entry::Entry;
use crate::run::id::RunId;
use crate::run::on_disk;
use crate::run::workbench::Workbench;

/// Something whose changes are noticed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Which routines and runs exist.
    Lists,
    /// The home's health, as far as it follows from settings, agents and their holds, routines, and which runs exist.
    Health,
    /// What runs used, which is known once they have ended.
    Usage,
    /// A routine's definition, its schedule, and which runs it has.
    Routine(Slug),
    /// A run's status; not what it prints.
    Run(RunId),
    Log(RunId),
}

/// Remembers what was seen at the last look.
#[derive(Debug)]
pub struct Observer {
    home: Home,
    seen: BTreeMap<Topic, u64>,
    /// A mark of each routine's workbenches, and of their directory at that time.
    workbenches: Option<(u64, BTreeMap<Slug, u64>)>,
    routines: Arc<KnownRoutines>,
}

/// What changed so shortly before the first look counts as changed: the client may have read it before that.
const JUST_BEFORE: Duration = Duration::from_secs(2);

impl Observer {
    pub fn new(home: Home, routines: Arc<KnownRoutines>) -> Self {
        Self { home, seen: BTreeMap::new(), workbenches: None, routines }
    }

    /// Looks at `topics`, forgets all others, and returns those that changed since the last look; new topics count as changed if
    /// they changed just before.
    pub fn look(&mut self, topics: &BTreeSet<Topic>) -> BTreeSet<Topic> {
        // A folder that cannot be listed now has not changed because of that.
        let Ok(entries) = Entry::list(&self.home) else { return BTreeSet::new() };
        if topics.iter().any(|topic| matches!(topic, Topic::Routine(_))) {
            self.list_workbenches();
        }
        if topics.contains(&Topic::Lists) || topics.contains(&Topic::Health) {
            self.look_at_definitions();
        }
        let just_before = SystemTime::now().checked_sub(JUST_BEFORE).unwrap_or(UNIX_EPOCH);
        let mut changed = BTreeSet::new();
        let mut seen = BTreeMap::new();
        for topic in topics {
            let mut mark = Mark::default();
            self.mark(topic, &entries, &mut mark);
            let differs = match self.seen.get(topic) {
                Some(before) => *before != mark.fingerprint(),
                None => mark.newest().is_some_and(|newest| newest >= just_before),
            };
            if differs {
                changed.insert(topic.clone());
            }
            seen.insert(topic.clone(), mark.fingerprint());
        }
        self.seen = seen;
        changed
    }

    /// Adds everything that a topic depends on to a mark.
    fn mark(&self, topic: &Topic, entries: &[Entry], mark: &mut Mark) {
        let home = &self.home;
        match topic {
            Topic::Lists => {
                mark.add_file(&home.workbenches());
                entries.iter().for_each(|entry| mark.add_fact(entry.id()));
                add_definitions(mark, home, self.routines.known().revision);
            }
            Topic::Health => {
                for path in [home.config_file(), home.workbenches(), home.pins(), home.snooze_file()] {
                    mark.add_file(&path);
                }
                entries.iter().for_each(|entry| mark.add_fact(entry.id()));
                add_definitions(mark, home, self.routines.known().revision);
                mark.add_files(&home.agents());
                mark.add_files(&home.holds());
            }
            Topic::Usage => {
                mark.add_file(&home.config_file());
                mark.add_file(&home.history_file());
                entries.iter().for_each(|entry| mark.add_fact(entry.id()));
            }
            Topic::Routine(slug) => {
                let own = [store::definition_file(home, slug), prompt::file(home, slug), Ledger::file(home, slug)];
                for path in own.into_iter().chain([home.snooze_file()]) {
                    mark.add_file(&path);
                }
                // What waits may wait for its agent.
                mark.add_files(&home.holds());
                // Its next fires depend on the machine's time zone.
                mark.add_fact(&MachineMark::now());
                for entry in entries.iter().filter(|entry| entry.id().routine() == slug) {
                    mark.add_fact(entry.id());
                    mark.add_file(entry.directory());
                }
                mark.add_fact(&self.workbenches.as_ref().and_then(|(_, known)| known.get(slug)));
            }
            Topic::Run(id) => {
                let workbench = Workbench::of(home, id);
                mark.add_file(Entry::of(home, id).directory());
                mark.add_file(&workbench.outcome_file());
                mark.add_file(&workbench.pin_file(home));
                mark.add_file(&home.questions().join(format!("{id}.json")));
                mark.add_file(&home.continuations().join(format!("{id}.json")));
                // Only the existence of the workbench: the agent works in it.
                mark.add_fact(&workbench.exists());
            }
            Topic::Log(id) => mark.add_file(&Workbench::of(home, id).log()),
        }
    }

    /// Looks at the definitions of all routines. If there are very many, only the scheduler does, and this uses what it found.
    fn look_at_definitions(&self) {
        if !self.routines.are_many()
            && let Err(error) = self.routines.refresh(&self.home, Look::Share)
        {
            tracing::debug!(%error, "routines were not looked at");
        }
    }

    /// Lists the workbenches again only if any came or went: there may be very many.
    fn list_workbenches(&mut self) {
        let mut directory = Mark::default();
        directory.add_file(&self.home.workbenches());
        if self.workbenches.as_ref().is_some_and(|(mark, _)| *mark == directory.fingerprint()) {
            return;
        }
        let mut known: BTreeMap<Slug, u64> = BTreeMap::new();
        // The system may list them in any order, so their marks are added up.
        for id in on_disk::ids_with_workbench(&self.home).unwrap_or_default() {
            let mut one = Mark::default();
            one.add_fact(&id);
            let sum = known.entry(id.routine().clone()).or_default();
            *sum = sum.wrapping_add(one.fingerprint());
        }
        self.workbenches = Some((directory.fingerprint(), known));
    }
}

fn add_definitions(mark: &mut Mark, home: &Home, Revision { number, newest }: Revision) {
    mark.add_file(&home.routines());
    mark.add_time(newest);
    mark.add_fact(&number);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    struct Fixture {
        _dir: tempfile::TempDir,
        home: Home,
        observer: Observer,
        topics: BTreeSet<Topic>,
    }

    fn run(id: &str) -> RunId {
        id.parse().unwrap()
    }

    fn slug(text: &str) -> Slug {
        text.parse().unwrap()
    }

    impl Fixture {
        fn new(topics: &[Topic]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let home = Home::open(dir.path().join("home")).unwrap();
            let observer = Observer::new(home.clone(), Arc::default());
            let mut fixture = Self { _dir: dir, home, observer, topics: topics.iter().cloned().collect() };
            fixture.look();
            fixture
        }

        fn look(&mut self) -> Vec<Topic> {
            self.observer.look(&self.topics).into_iter().collect()
        }

        /// Makes an entry as a trigger does, whole and by a rename.
        fn add_entry(&self, id: &str) {
            let staged = self.home.running().join(".staged");
            fs::create_dir(&staged).unwrap();
            fs::rename(staged, self.home.running().join(id)).unwrap();
        }
    }

    #[test]
    fn a_run_that_starts_prints_and_ends_is_reported_once_each() {
        let id = run("a-7");
        let [of_run, log, routine] = [Topic::Run(id.clone()), Topic::Log(id.clone()), Topic::Routine(slug("a"))];
        let mut fixture =
            Fixture::new(&[Topic::Lists, of_run.clone(), log.clone(), routine.clone(), Topic::Routine(slug("b"))]);
        assert_eq!(fixture.look(), []);

        fixture.add_entry("a-7");
        let workbench = Workbench::of(&fixture.home, &id);
        fs::create_dir(workbench.directory()).unwrap();
        assert_eq!(fixture.look(), [Topic::Lists, routine.clone(), of_run.clone()]);
        assert_eq!(fixture.look(), []);

        fs::write(workbench.log(), "one\n").unwrap();
        assert_eq!(fixture.look(), std::slice::from_ref(&log));
        fs::write(workbench.directory().join("made by the agent"), "x").unwrap();
        assert_eq!(fixture.look(), []);

        fs::write(workbench.outcome_file(), "{}").unwrap();
        fs::rename(fixture.home.running().join("a-7"), fixture.home.trash().join("a-7.x")).unwrap();
        assert_eq!(fixture.look(), [Topic::Lists, routine.clone(), of_run.clone()]);

        fs::rename(workbench.directory(), fixture.home.trash().join("a-7.y")).unwrap();
        assert_eq!(fixture.look(), [Topic::Lists, routine, of_run, log]);
        assert_eq!(fixture.look(), []);
    }

    #[test]
    fn a_routine_that_is_edited_is_reported_and_its_neighbour_is_not() {
        let mut fixture = Fixture::new(&[Topic::Routine(slug("a")), Topic::Routine(slug("b")), Topic::Health]);
        let file = store::definition_file(&fixture.home, &slug("a"));
        fs::create_dir(file.parent().unwrap()).unwrap();
        assert_eq!(fixture.look(), [Topic::Health]);
        fs::write(&file, "title = 'A'").unwrap();
        assert_eq!(fixture.look(), [Topic::Health, Topic::Routine(slug("a"))]);
        // Another file of the same size and time.
        let written = fs::metadata(&file).unwrap().modified().unwrap();
        let other = fixture.home.root().join("other");
        fs::write(&other, "title = 'B'").unwrap();
        File::open(&other).unwrap().set_modified(written).unwrap();
        fs::rename(other, &file).unwrap();
        assert_eq!(fixture.look(), [Topic::Health, Topic::Routine(slug("a"))]);
        fs::write(fixture.home.agents().join("mine.toml"), "command = 'x'").unwrap();
        assert_eq!(fixture.look(), [Topic::Health]);
        fs::write(fixture.home.agents().join("mine.toml"), "command = 'yy'").unwrap();
        assert_eq!(fixture.look(), [Topic::Health]);
    }

    #[test]
    fn what_changed_just_before_the_first_look_counts_as_changed() {
        let mut fixture = Fixture::new(&[]);
        let (fresh, old, none) = (run("fresh-1"), run("old-1"), run("none-1"));
        for id in [&fresh, &old] {
            let workbench = Workbench::of(&fixture.home, id);
            fs::create_dir(workbench.directory()).unwrap();
            fs::write(workbench.log(), "x").unwrap();
        }
        let log = File::options().append(true).open(Workbench::of(&fixture.home, &old).log()).unwrap();
        log.set_modified(SystemTime::now() - 2 * JUST_BEFORE).unwrap();
        fixture.topics = [fresh.clone(), old, none].into_iter().map(Topic::Log).collect();
        assert_eq!(fixture.look(), [Topic::Log(fresh)]);
        assert_eq!(fixture.look(), []);
    }
}
