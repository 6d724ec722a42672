//! What this process knows of all routines, kept up to date by looking at their files.
//!
//! There may be tens of thousands. So each is kept in brief, a look reads only what changed, and a look of the kind that is made
//! every few seconds takes in a share of the files: all of them in a home of usual size, in a larger one the next of them.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::brief::{Brief, Changed, Place, Wanted};
use super::slug::Slug;
use super::zone::{self, MachineMark};
use crate::clock::UnixSeconds;
use crate::home::atomic_file::FileError;
use crate::home::file_cache::Stamp;
use crate::home::{Home, names};

/// All routines in brief, shared by everything in this process that asks about all of them.
#[derive(Debug, Default)]
pub struct KnownRoutines {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By slug.
    briefs: Vec<Brief>,
    /// Those that are new or change just now, and are looked at each time.
    unsettled: Vec<Slug>,
    /// Where the next share begins, how many rounds there were, and when the last share was taken.
    cursor: usize,
    round: u32,
    shared_at: Option<Instant>,
    /// Up to when none needs anything, and when somebody last asked.
    rests_until: UnixSeconds,
    asked_at: UnixSeconds,
    listed: Listed,
    /// What the plans of schedules without a zone were made with.
    zone: Option<MachineMark>,
    revision: Revision,
}

/// The directory as it was last listed.
#[derive(Debug, Default)]
struct Listed {
    /// The directory itself, if a change of it would show.
    stamp: Option<Stamp>,
    names: Names,
    /// When it is listed again all the same.
    again: Option<Instant>,
}

/// The names in a directory, to see whether they are the same. The system lists them in no order, so what comes of each is summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Names {
    count: u32,
    sum: u64,
}

impl Names {
    fn add(&mut self, name: &str) {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        self.sum = self.sum.wrapping_add(hasher.finish());
        self.count += 1;
    }
}

/// A number that grows whenever a definition is seen to be another one, and when the newest of them was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Revision {
    /// The number.
    pub number: u64,
    /// The time.
    pub newest: Option<SystemTime>,
}

/// How much a look takes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// What is new or changes just now, and of the others as many as the time since the last such look is good for.
    Share,
    /// Everything, prompts included; in a large home as many of them as a moment allows, and the next ones later.
    All,
}

/// How many routines are looked at per second: about 0.5 % of a core. A home with 4,000 is looked through every 2 s, one with
/// 50,000 every 25 s.
const SHARE_PER_SEC: u32 = 2_000;

/// What a share comes to at least, so that looks in quick succession take in all of a small home.
const LEAST_SHARE: usize = 100;

/// From how many on one look does not take in all: how many are the turn of a look every 2 s.
const LARGE: usize = 2 * SHARE_PER_SEC as usize;

/// How many rounds through a large home there are for each that takes in all ledgers.
const ROUNDS_UNTIL_THOROUGH: u32 = 4;

/// The pause before a directory that seems to be unchanged is listed all the same, for each routine: some file systems do not tell.
const LIST_PAUSE: Duration = Duration::from_millis(2);

/// How long one look at a large home reads prompts.
const PROMPTS_PATIENCE: Duration = Duration::from_millis(100);

/// How many routines are looked at before others get their turn.
const BATCH: usize = 1_000;

impl KnownRoutines {
    /// Brings up to date what is known. Of two callers at the same time, one uses what the other has read.
    ///
    /// # Errors
    /// The directory of routines cannot be listed.
    pub fn refresh(&self, home: &Home, look: Look) -> Result<(), FileError> {
        let routines = home.routines();
        let directory = File::open(&routines).map_err(|source| FileError::io("list", &routines, source))?;
        let mut known = self.known();
        known.note_zone();
        let machine = zone::of_machine().zone;
        known.list_if_changed(home)?;
        let is_large = known.briefs.len() > LARGE;
        let mut place = Place {
            home,
            routines: directory.as_fd(),
            path: &routines,
            machine: &machine,
            is_thorough: true,
            prompts_until: is_large.then(|| Instant::now() + PROMPTS_PATIENCE),
        };
        match look {
            Look::All => {
                known.unsettled.clear();
                known.briefs.iter_mut().for_each(|brief| brief.want(Wanted::FilesAndPrompt));
            }
            Look::Share => {
                let share = known.take_share();
                // In a large home what can wait is looked at in some rounds only.
                place.is_thorough = !is_large || known.round.is_multiple_of(ROUNDS_UNTIL_THOROUGH);
                let turn = known.take_turn(share);
                known.briefs[turn.clone()].iter_mut().for_each(|brief| brief.want(Wanted::Files));
                let unsettled = std::mem::take(&mut known.unsettled);
                if unsettled.len() < BATCH {
                    for slug in unsettled {
                        let Ok(at) = known.place(slug.as_str()) else { continue };
                        known.briefs[at].want(Wanted::Files);
                        known.look(at..at + 1, &place);
                    }
                    known.look(turn, &place);
                    return Ok(());
                }
                known.briefs.iter_mut().filter(|brief| !brief.is_settled).for_each(|brief| brief.want(Wanted::Files));
            }
        }
        drop(known);
        let mut after = None;
        loop {
            // Others get their turn after each batch, and may have added some or taken some away.
            let mut known = self.known();
            let start = after.map_or(0, |after| known.briefs.partition_point(|brief| brief.slug <= after));
            let wanted = known.briefs[start..].iter().position(|brief| brief.wanted > Wanted::Nothing);
            let Some(first) = wanted.map(|offset| start + offset) else { return Ok(()) };
            let end = known.briefs.len().min(first + BATCH);
            known.look(first..end, &place);
            after = known.briefs[..end].last().map(|brief| brief.slug.clone());
        }
    }

    /// Shows all that are known, by slug; `see` must be quick.
    pub fn each(&self, see: impl FnMut(&Brief)) {
        self.known().briefs.iter().for_each(see);
    }

    /// Shows all that are known, if any may need something by now, to `see`, which returns when it does next; returns when the
    /// first of all will.
    pub fn each_if_needed(&self, now: UnixSeconds, mut see: impl FnMut(&Brief) -> Option<UnixSeconds>) -> UnixSeconds {
        let mut known = self.known();
        // A clock that was set back may have left some far ahead of it.
        if now >= known.rests_until || now < known.asked_at {
            known.rests_until = known.briefs.iter().filter_map(&mut see).min().unwrap_or(UnixSeconds(u64::MAX));
        }
        known.asked_at = now;
        known.rests_until
    }

    /// Returns the revision of what is known of definitions.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.known().revision
    }

    /// Says whether there are so many that a look takes in only some, which is then best left to the scheduler.
    #[must_use]
    pub fn are_many(&self) -> bool {
        self.known().briefs.len() > LARGE
    }

    /// Has routines read at the next look, whatever their files look like.
    pub fn forget(&self, slugs: Vec<Slug>) {
        let mut known = self.known();
        for slug in slugs {
            if let Ok(place) = known.place(slug.as_str()) {
                known.unsettle(place);
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn place(&self, slug: &str) -> Result<usize, usize> {
        self.briefs.binary_search_by(|brief| brief.slug.as_str().cmp(slug))
    }

    fn unsettle(&mut self, place: usize) {
        let brief = &mut self.briefs[place];
        if brief.is_settled {
            brief.is_settled = false;
            self.unsettled.push(brief.slug.clone());
        }
    }

    /// Has those read that depend on the machine's time zone, if that is another one by now.
    fn note_zone(&mut self) {
        let now = Some(MachineMark::now());
        if self.zone != now {
            for place in 0..self.briefs.len() {
                if self.briefs[place].plan().is_ok_and(|plan| plan.follows_machine_zone) {
                    self.unsettle(place);
                }
            }
            self.zone = now;
        }
    }

    /// Does what is wanted of these, and notes what comes of it.
    fn look(&mut self, which: Range<usize>, place: &Place<'_>) {
        let Seen { revision, unsettled, needed_at } = look_at(&mut self.briefs[which], place);
        self.revision.number += revision.number;
        self.revision.newest = self.revision.newest.max(revision.newest);
        self.unsettled.extend(unsettled);
        self.rests_until = needed_at.map_or(self.rests_until, |needed_at| self.rests_until.min(needed_at));
    }

    /// Lists the directory if it changed, or it is time to: adds what is new, and drops what is gone.
    fn list_if_changed(&mut self, home: &Home) -> Result<(), FileError> {
        let (routines, now) = (home.routines(), SystemTime::now());
        let stamp = Stamp::of(&routines);
        let is_time = self.listed.again.is_none_or(|then| then <= Instant::now());
        if !is_time && stamp.is_some() && self.listed.stamp == stamp {
            return Ok(());
        }
        let mut names = Names::default();
        let is_first = self.listed.again.is_none();
        if !is_first {
            names::scan(&routines, |name, _| names.add(name))?;
        }
        if is_first || names != self.listed.names {
            names = self.merge(&routines)?;
        }
        let again = Instant::now().checked_add(LIST_PAUSE * names.count);
        self.listed = Listed { stamp: stamp.filter(|stamp| stamp.is_settled(now)), names, again };
        Ok(())
    }

    /// Adds the names that are new, and drops those that are gone.
    fn merge(&mut self, routines: &Path) -> Result<Names, FileError> {
        let mut names = Names::default();
        let mut found = vec![false; self.briefs.len()];
        let mut new: Vec<Slug> = Vec::new();
        names::scan(routines, |name, _| {
            names.add(name);
            match self.place(name) {
                Ok(place) => found[place] = true,
                Err(_) => new.extend(name.parse::<Slug>()),
            }
        })?;
        new.sort_unstable();
        let mut found = found.into_iter();
        self.briefs.retain(|_| found.next().unwrap_or(false));
        self.unsettled.extend(new.iter().cloned());
        self.briefs.reserve_exact(new.len());
        self.briefs.extend(new.into_iter().map(Brief::of));
        // Quick with two runs that are in order by themselves.
        self.briefs.sort_by(|one, other| one.slug.cmp(&other.slug));
        self.revision.number += 1;
        Ok(names)
    }

    /// Returns how many are the turn of a share now.
    fn take_share(&mut self) -> usize {
        let since = self.shared_at.replace(Instant::now()).map_or(Duration::MAX, |before| before.elapsed());
        LEAST_SHARE.max((since.as_secs_f64() * f64::from(SHARE_PER_SEC)) as usize)
    }

    /// Returns whose turn it is, and notes that they had it.
    fn take_turn(&mut self, share: usize) -> Range<usize> {
        let start = self.cursor.min(self.briefs.len());
        let end = start.saturating_add(share).min(self.briefs.len());
        if end < self.briefs.len() {
            self.cursor = end;
        } else {
            self.cursor = 0;
            self.round = self.round.wrapping_add(1);
        }
        start..end
    }
}

/// From how many on that have to be read, or looked at, several threads are quicker than one.
const MANY_TO_READ: usize = 100;

const MOST_THREADS: usize = 4;

/// How many a thread takes at a time.
const PART: usize = 50;

/// What came of looking at some.
#[derive(Debug, Default)]
struct Seen {
    /// How many definitions changed.
    revision: Revision,
    unsettled: Vec<Slug>,
    /// When the first of them needs something.
    needed_at: Option<UnixSeconds>,
}

impl Seen {
    fn add(&mut self, brief: &Brief, changed: Option<Changed>) {
        if let Some(Changed { written }) = changed {
            self.revision.number += 1;
            self.revision.newest = self.revision.newest.max(written);
        }
        if !brief.is_settled {
            self.unsettled.push(brief.slug.clone());
        }
        self.needed_at = self.needed_at.into_iter().chain(brief.needed_at()).min();
    }
}

/// Looks at all that are wanted, on several threads if much has to be read.
fn look_at(batch: &mut [Brief], place: &Place<'_>) -> Seen {
    let is_work =
        |brief: &Brief| brief.wanted > Wanted::Nothing && (!brief.is_settled || brief.wanted == Wanted::FilesAndPrompt);
    let threads = match batch.iter().filter(|brief| is_work(brief)).count() {
        ..MANY_TO_READ => 1,
        _ => thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST_THREADS),
    };
    let parts = Mutex::new(batch.chunks_mut(PART));
    let next = || parts.lock().unwrap_or_else(PoisonError::into_inner).next();
    let seen = Mutex::new(Seen::default());
    let work = || {
        while let Some(part) = next() {
            for brief in part.iter_mut().filter(|brief| brief.wanted > Wanted::Nothing) {
                let changed = brief.look(place);
                seen.lock().unwrap_or_else(PoisonError::into_inner).add(brief, changed);
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
    seen.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routine::brief::Plan;
    use crate::routine::ledger::Ledger;
    use crate::routine::model::Definition;
    use crate::routine::store;

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
            let _ = std::fs::create_dir(store::directory(&self.home, &slug));
            std::fs::write(store::definition_file(&self.home, &slug), definition).unwrap();
            std::fs::write(store::prompt_file(&self.home, &slug), "do it").unwrap();
            for file in [store::definition_file(&self.home, &slug), store::prompt_file(&self.home, &slug)] {
                let file = File::options().append(true).open(file).unwrap();
                file.set_modified(SystemTime::now() - Duration::from_secs(100)).unwrap();
            }
        }

        fn good(&self, slug: &str) {
            self.write(slug, &format!("title = '{slug}'\nagent = 'claude'\n"));
        }

        fn look(&self, look: Look) {
            self.routines.refresh(&self.home, look).unwrap();
        }

        /// Returns the names of all, with `!` if the definition cannot be read and `?` if the prompt cannot.
        fn seen(&self) -> Vec<String> {
            let mut seen = Vec::new();
            self.routines.each(|routine| {
                let damaged = if routine.damage().is_some() { "!" } else { "" };
                let prompt = if routine.prompt_damage().is_some() { "?" } else { "" };
                seen.push(format!("{}{damaged}{prompt}", routine.slug()));
            });
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
        let revision = fixture.routines.revision();
        fixture.look(Look::All);
        assert_eq!(fixture.routines.revision(), revision);
        fixture.write("b", "title = 'Another'");
        fixture.look(Look::Share);
        assert!(fixture.routines.revision().number > revision.number);
    }

    #[test]
    fn a_prompt_that_cannot_be_read_is_named_and_one_that_can_again_is_not() {
        let fixture = Fixture::new();
        fixture.good("a");
        let prompt = store::prompt_file(&fixture.home, &"a".parse().unwrap());
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
        let plan = || {
            let mut plan = None;
            fixture.routines.each(|routine| plan = routine.plan().ok().cloned());
            plan
        };
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
        let mut known = Known::default();
        let names = (0..1_000).map(|n| format!("r{n:04}").parse::<Slug>().unwrap());
        known.briefs.extend(names.map(Brief::of));
        let mut turns = vec![0; known.briefs.len()];
        for _ in 0..8 {
            known.take_turn(300).for_each(|place| turns[place] += 1);
        }
        assert!(turns.iter().all(|turns| *turns == 2), "each fourth look is the last of a round");
        known.briefs.truncate(10);
        assert_eq!(known.take_turn(usize::MAX), 0..10);
    }

    #[test]
    fn nobody_is_shown_anything_before_something_is_needed() {
        let fixture = Fixture::new();
        let ask = |now: u64, answer: u64| {
            let mut shown = 0;
            let until = fixture.routines.each_if_needed(UnixSeconds(now), |_| {
                shown += 1;
                Some(UnixSeconds(answer))
            });
            (shown, until.0)
        };
        assert_eq!(ask(5, 0), (0, u64::MAX), "there is none");
        fixture.good("a");
        fixture.write("b", "title = 'b'\nagent = 'claude'\nschedule = '@hourly'\n");
        fixture.look(Look::Share);
        assert_eq!(ask(6, 10), (2, 10), "one has no ledger yet");
        assert_eq!(ask(9, 0), (0, 10));
        assert_eq!(ask(10, 20), (2, 20));
        assert_eq!(ask(9, 30), (2, 30), "the clock was set back");
        fixture.look(Look::All);
        assert_eq!(ask(11, 20), (2, 20), "what was looked at may need something sooner");
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
                    let mut readable = 0;
                    fixture.routines.each(|routine| readable += usize::from(routine.limits().is_some()));
                    assert!(readable == 1_500 || look == Look::Share, "{readable}");
                });
            }
        });
    }
}
