//! What this process knows of all routines, kept up to date by looking at their files.
//!
//! There may be tens of thousands. So each is kept in brief, only files that changed are read, and the look that is made every
//! few seconds takes in the next share of the routines: all of them in a home of usual size.

use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::store;
use super::summary::{Place, Plan, Summary};
use super::zone::{self, MachineMark};
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::home::file_cache::Stamp;

/// All routines in brief, shared by everything in this process that asks about all of them.
#[derive(Debug, Default)]
pub struct KnownRoutines {
    /// Never locked while files are looked at, which takes long on a disk that stalls.
    known: Mutex<Arc<Known>>,
    /// Locked for a whole look.
    looks: Mutex<Looks>,
}

/// What a look has found; replaced as a whole by one that finds anything else.
#[derive(Debug, Default)]
pub struct Known {
    /// By slug.
    pub summaries: Vec<Arc<Summary>>,
    pub revision: Revision,
    /// The earliest time at which a routine needs something, as far as the clock is right.
    pub next: Option<UnixSeconds>,
    /// Up to where the schedule that is furthest ahead was dealt with.
    pub fired_until: UnixSeconds,
}

/// How the looks so far went.
#[derive(Debug, Default)]
struct Looks {
    /// Where the next share begins, and when the last one was taken.
    cursor: usize,
    shared_at: Option<Instant>,
    /// The directory as it was last listed, if a change of it would show, and when that was.
    directory: Option<(Stamp, Instant)>,
    /// What the plans of schedules without a zone were made with.
    zone: Option<MachineMark>,
}

/// A number that grows whenever a definition is seen to be another one, and when the newest of them was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Revision {
    pub number: u64,
    pub newest: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// What is new or changes just now, and as many of the others as the time since the last such look allows.
    Share,
    /// Everything, prompts included. In a large home, the prompts that can be read in a moment; later looks read the rest.
    All,
}

/// How long a round through all routines takes at least, however often they are looked at.
const ROUND: Duration = Duration::from_millis(1_500);

/// How many routines are looked at per second at most: less than 1 % of a core. A round through 50,000 takes 50 s.
const MAX_SHARE_PER_SEC: f64 = 1_000.0;

/// How long a directory without a visible change is not listed again: some file systems do not show a change.
const LISTED_FOR: Duration = Duration::from_secs(30);

/// The smallest share, so that looks in quick succession take in all of a small home.
const LEAST_SHARE: usize = 100;

/// A home with more routines is large: a look every 2 s does not take in all of them.
const LARGE: usize = 2_000;

/// How long one look at a large home reads prompts.
const PROMPTS_PER_LOOK: Duration = Duration::from_millis(100);

/// Several threads read this many routines, or more, sooner than one.
const MANY_TO_READ: usize = 100;

const MOST_THREADS: usize = 4;

/// How many routines a thread takes at a time.
const BATCH: usize = 50;

impl KnownRoutines {
    /// Brings up to date what is known, and returns it. Of two callers at the same time, the second uses what the first has
    /// read.
    pub fn refresh(&self, home: &Home, look: Look) -> Result<Arc<Known>, FileError> {
        let since = Instant::now();
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.known();
        let mut summaries = before.summaries.clone();
        let mut revision = before.revision;
        revision.number += u64::from(looks.list(home, &mut summaries)?);
        looks.note_zone(&mut summaries);
        let turn = match look {
            Look::All => 0..summaries.len(),
            Look::Share => {
                let share = looks.share(summaries.len());
                looks.take_turn(share, summaries.len())
            }
        };
        let is_large = summaries.len() > LARGE;
        let directory = home.routines();
        let opened = File::open(&directory).map_err(|source| FileError::io("open", &directory, source))?;
        let place = Place {
            home,
            since,
            directory: &opened.into(),
            machine: &zone::of_machine().zone,
            checks_prompts: look == Look::All,
            prompts_until: is_large.then(|| Instant::now() + PROMPTS_PER_LOOK),
        };
        let in_turn = summaries.iter_mut().enumerate().filter(|(at, summary)| turn.contains(at) || !summary.is_settled);
        let mut to_see: Vec<&mut Arc<Summary>> = in_turn.map(|(_, summary)| summary).collect();
        look_at(&mut to_see, &place, &mut revision);
        if summaries.len() == before.summaries.len()
            && summaries.iter().zip(&before.summaries).all(|(one, other)| Arc::ptr_eq(one, other))
        {
            return Ok(before);
        }
        let known = Arc::new(Known::new(summaries, revision));
        *self.lock() = Arc::clone(&known);
        Ok(known)
    }

    /// Returns whether there are so many that a look takes in only some, which is then best left to the scheduler.
    pub fn are_many(&self) -> bool {
        self.known().summaries.len() > LARGE
    }

    /// Returns what the last look found.
    pub fn known(&self) -> Arc<Known> {
        Arc::clone(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn new(summaries: Vec<Arc<Summary>>, revision: Revision) -> Self {
        let plans = || summaries.iter().map(|summary| summary.plan());
        // A ledger that cannot be read needs a person.
        let next = plans().filter_map(|plan| plan.map_or(Some(UnixSeconds(0)), Plan::next_need)).min();
        let fired_until = plans().flatten().map(|plan| plan.fired_until).max().unwrap_or_default();
        Self { summaries, revision, next, fired_until }
    }
}

impl Looks {
    /// Adds the routines that are new, and drops those that are gone; returns whether there were any.
    fn list(&mut self, home: &Home, summaries: &mut Vec<Arc<Summary>>) -> Result<bool, FileError> {
        let (now, stamp) = (SystemTime::now(), Stamp::of(&home.routines()));
        if self.directory.is_some_and(|(known, at)| Some(known) == stamp && at.elapsed() < LISTED_FOR) {
            return Ok(false);
        }
        let slugs = store::slugs(home)?;
        self.directory = stamp.filter(|stamp| stamp.is_settled(now)).map(|stamp| (stamp, Instant::now()));
        if slugs.iter().eq(summaries.iter().map(|summary| &summary.slug)) {
            return Ok(false);
        }
        let mut before = std::mem::take(summaries).into_iter().peekable();
        for slug in slugs {
            while before.next_if(|summary| summary.slug < slug).is_some() {}
            let kept = before.next_if(|summary| summary.slug == slug);
            summaries.push(kept.unwrap_or_else(|| Arc::new(Summary::of(slug))));
        }
        Ok(true)
    }

    /// Has those read that depend on the machine's time zone, if that changed.
    fn note_zone(&mut self, summaries: &mut [Arc<Summary>]) {
        let now = Some(MachineMark::now());
        if self.zone != now {
            let follows = |summary: &Summary| summary.plan().is_ok_and(|plan| plan.follows_machine_zone);
            for summary in summaries.iter_mut().filter(|summary| follows(summary)) {
                Arc::make_mut(summary).is_settled = false;
            }
            self.zone = now;
        }
    }

    /// Returns how many of `count` routines are looked at now.
    fn share(&mut self, count: usize) -> usize {
        let since = self.shared_at.replace(Instant::now()).map_or(Duration::MAX, |before| before.elapsed());
        let per_sec = MAX_SHARE_PER_SEC.min(count as f64 / ROUND.as_secs_f64());
        LEAST_SHARE.max((since.as_secs_f64() * per_sec).ceil() as usize)
    }

    /// Returns whose turn it is among so many, and notes that they had it.
    fn take_turn(&mut self, share: usize, count: usize) -> Range<usize> {
        let start = self.cursor.min(count);
        let end = start.saturating_add(share).min(count);
        self.cursor = if end < count { end } else { 0 };
        start..end
    }
}

/// Looks at these, on several threads if much has to be read, and notes which definitions changed.
fn look_at(summaries: &mut [&mut Arc<Summary>], place: &Place<'_>, revision: &mut Revision) {
    let to_read = summaries.iter().filter(|summary| place.checks_prompts || !summary.is_settled).count();
    let threads = match to_read {
        ..MANY_TO_READ => 1,
        _ => thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST_THREADS),
    };
    let batches = Mutex::new(summaries.chunks_mut(BATCH));
    let next = || batches.lock().unwrap_or_else(PoisonError::into_inner).next();
    let revision = Mutex::new(revision);
    let work = || {
        while let Some(batch) = next() {
            for written in batch.iter_mut().filter_map(|summary| Summary::look(summary, place)) {
                let mut revision = revision.lock().unwrap_or_else(PoisonError::into_inner);
                revision.number += 1;
                revision.newest = revision.newest.max(Some(written));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // Where the system has no thread left, fewer do it.
            let _ = thread::Builder::new().name("routines".into()).spawn_scoped(scope, work);
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::routine::ledger::Ledger;
    use crate::routine::model::Definition;
    use crate::routine::prompt;
    use crate::routine::slug::Slug;

    struct Fixture {
        _dir: tempfile::TempDir,
        home: Home,
        routines: KnownRoutines,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let home = Home::open(dir.path().join("home")).unwrap();
            Self { _dir: dir, home, routines: KnownRoutines::default() }
        }

        /// Writes a routine whose files are old.
        fn write(&self, slug: &str, definition: &str) {
            let slug: Slug = slug.parse().unwrap();
            let _ = std::fs::create_dir(slug.directory(&self.home));
            std::fs::write(store::definition_file(&self.home, &slug), definition).unwrap();
            std::fs::write(prompt::file(&self.home, &slug), "do it").unwrap();
            for file in [store::definition_file(&self.home, &slug), prompt::file(&self.home, &slug)] {
                let file = File::options().append(true).open(file).unwrap();
                file.set_modified(SystemTime::now() - Duration::from_secs(100)).unwrap();
            }
        }

        fn good(&self, slug: &str) {
            self.write(slug, &format!("title = '{slug}'\nagent = 'claude'\n"));
        }

        fn look(&self, look: Look) -> Arc<Known> {
            self.routines.refresh(&self.home, look).unwrap()
        }

        /// Returns the names of all, with `!` if the definition cannot be read and `?` if the prompt cannot.
        fn seen(&self) -> Vec<String> {
            let mut seen = Vec::new();
            for routine in &self.routines.known().summaries {
                let damaged = if routine.damage().is_some() { "!" } else { "" };
                let prompt = if routine.prompt_damage().is_some() { "?" } else { "" };
                seen.push(format!("{}{damaged}{prompt}", routine.slug()));
            }
            seen
        }
    }

    #[test]
    fn what_comes_goes_or_changes_is_seen_at_the_next_look() {
        let fixture = Fixture::new();
        fixture.look(Look::Share);
        assert_eq!(fixture.seen(), Vec::<String>::new());
        ["b", "a", "c"].iter().for_each(|slug| fixture.good(slug));
        fixture.look(Look::Share);
        assert_eq!(fixture.seen(), ["a", "b", "c"]);
        fixture.write("b", "titel = 'typo'");
        std::fs::remove_dir_all(fixture.home.routines().join("a")).unwrap();
        std::fs::write(fixture.home.routines().join("file"), "").unwrap();
        fixture.look(Look::Share);
        assert_eq!(fixture.seen(), ["b!", "c", "file!"]);
        fixture.good("b");
        fixture.look(Look::Share);
        assert_eq!(fixture.seen(), ["b", "c", "file!"]);
        let revision = fixture.routines.known().revision;
        fixture.look(Look::All);
        assert_eq!(fixture.routines.known().revision, revision);
        fixture.write("b", "title = 'Another'");
        fixture.look(Look::Share);
        assert!(fixture.routines.known().revision.number > revision.number);
    }

    #[test]
    fn a_prompt_that_cannot_be_read_is_named_and_one_that_can_again_is_not() {
        let fixture = Fixture::new();
        fixture.good("a");
        let prompt = prompt::file(&fixture.home, &"a".parse().unwrap());
        let damages: [&dyn Fn(); 4] = [
            &|| std::fs::write(&prompt, b"\xff").unwrap(),
            &|| File::create(&prompt).unwrap().set_len(2 << 20).unwrap(),
            &|| std::fs::remove_file(&prompt).unwrap(),
            &|| std::os::unix::fs::symlink("routine.toml", &prompt).unwrap(),
        ];
        for damage in damages {
            damage();
            fixture.look(Look::All);
            assert_eq!(fixture.seen(), ["a?"]);
        }
        std::fs::remove_file(&prompt).unwrap();
        fixture.good("a");
        fixture.look(Look::All);
        assert_eq!(fixture.seen(), ["a"]);
    }

    #[test]
    fn a_plan_follows_the_schedule_and_the_ledger() {
        let fixture = Fixture::new();
        let plan = || fixture.routines.known().summaries.last().and_then(|routine| routine.plan().ok().cloned());
        let text = "title = 'a'\nagent = 'claude'\nschedule = '@hourly'\n";
        fixture.write("a", text);
        fixture.look(Look::Share);
        assert!(plan().is_some_and(|plan| plan.is_behind && plan.follows_machine_zone));
        let slug: Slug = "a".parse().unwrap();
        let definition = Definition { schedule: Some("@hourly".into()), ..Definition::default() };
        let mut ledger = Ledger::default();
        ledger.follow(&definition, UnixSeconds(1_767_225_600));
        ledger.write(&fixture.home, &slug).unwrap();
        fixture.look(Look::Share);
        let followed = plan().unwrap();
        assert_eq!((followed.is_behind, followed.fired_until), (false, UnixSeconds(1_767_225_600)));
        assert!(followed.next.is_some());
        std::fs::write(Ledger::file(&fixture.home, &slug), "{").unwrap();
        fixture.look(Look::Share);
        assert_eq!(plan(), None);
        fixture.write("a", &format!("enabled = false\n{text}"));
        std::fs::remove_file(Ledger::file(&fixture.home, &slug)).unwrap();
        fixture.look(Look::Share);
        assert_eq!(plan(), Some(Plan::default()), "nothing to do for one that is disabled");
    }

    #[test]
    fn in_a_large_home_each_look_takes_its_share_and_all_get_their_turn() {
        let mut looks = Looks::default();
        let mut turns = vec![0; 1_000];
        for _ in 0..8 {
            looks.take_turn(300, turns.len()).for_each(|place| turns[place] += 1);
        }
        assert!(turns.iter().all(|turns| *turns == 2), "each fourth look is the last of a round");
        assert_eq!(looks.take_turn(usize::MAX, 10), 0..10);
    }

    #[test]
    fn what_is_known_stays_the_same_while_nothing_changes_and_can_be_read_during_a_look() {
        let fixture = Fixture::new();
        ["a", "b"].iter().for_each(|slug| fixture.good(slug));
        let known = fixture.look(Look::All);
        assert!(Arc::ptr_eq(&known, &fixture.look(Look::All)) && Arc::ptr_eq(&known, &fixture.look(Look::Share)));
        let looks = fixture.routines.looks.lock().unwrap();
        thread::scope(|scope| {
            let look = scope.spawn(|| fixture.look(Look::Share));
            assert_eq!(fixture.seen(), ["a", "b"]);
            assert_eq!(fixture.routines.known().revision, known.revision);
            drop(looks);
            look.join().unwrap();
        });
        fixture.write("b", "title = 'Another'");
        assert!(!Arc::ptr_eq(&known, &fixture.look(Look::Share)));
    }

    #[test]
    fn a_directory_that_did_not_change_is_not_listed_again_until_a_while_has_passed() {
        let fixture = Fixture::new();
        fixture.good("a");
        let old = SystemTime::now() - Duration::from_secs(100);
        let set_back = || File::open(fixture.home.routines()).unwrap().set_modified(old).unwrap();
        set_back();
        fixture.look(Look::Share);
        let mut looks = fixture.routines.looks.lock().unwrap();
        let listed = looks.directory.expect("its change would show");
        drop(looks);
        fixture.look(Look::Share);
        looks = fixture.routines.looks.lock().unwrap();
        assert_eq!(looks.directory, Some(listed));
        looks.directory = Instant::now().checked_sub(LISTED_FOR).map(|at| (listed.0, at));
        drop(looks);
        fixture.look(Look::Share);
        assert!(fixture.routines.looks.lock().unwrap().directory.is_some_and(|(_, at)| at > listed.1));
    }

    #[test]
    fn many_are_read_by_several_threads_and_by_several_callers() {
        let fixture = Fixture::new();
        (0..1_500).for_each(|n| fixture.good(&format!("r{n}")));
        thread::scope(|scope| {
            for look in [Look::Share, Look::All, Look::All] {
                let fixture = &fixture;
                scope.spawn(move || {
                    fixture.look(look);
                    let known = fixture.routines.known();
                    let readable = known.summaries.iter().filter(|routine| routine.readable().is_some()).count();
                    assert!(readable == 1_500 || look == Look::Share, "{readable}");
                });
            }
        });
    }
}
