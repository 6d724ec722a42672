//! Where in the history each run's line is: kept in memory, and extended as the files grow.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::CLOCK_MARGIN_SECS;
use super::costs::KnownCosts;
use super::files::{self, HistoryFile};
use super::indexed_file::IndexedFile;
use super::line::{LineHead, NO_DURATION, Past, line_at};
use super::slugs::Slugs;
use super::tally::{RunTally, Tally};
use crate::clock::UnixSeconds;
use crate::home::atomic_file::{self, FileError, MAX_RECORD_BYTES};
use crate::home::file_cache::Stamp;
use crate::home::{Home, stable_hash};
use crate::routine::slug::Slug;
use crate::run::id::{RunId, parts};
use crate::run::status::Status;

/// What a process knows of the history. Reading it again costs no more than the files have grown.
#[derive(Debug, Default)]
pub struct HistoryIndex {
    lines: Mutex<Lines>,
    /// Whether this process has made sure that every run that ended has a line.
    pub(super) is_complete: AtomicBool,
}

/// The indexed lines of runs.
#[derive(Debug, Default)]
pub struct Lines {
    /// By the numbers that lines refer to.
    files: BTreeMap<u32, IndexedFile>,
    slugs: Slugs,
    /// Oldest run first. Somebody may have copied a line, so a run may have several.
    lines: Vec<Line>,
    /// When the newest run of each routine was triggered, by the routine's number.
    newest: Vec<Option<UnixSeconds>>,
    /// What runs cost, as far as it was asked for.
    pub(super) costs: KnownCosts,
    /// What was counted in files that are gone since.
    gone: Tally,
    /// What was counted in files that are somewhere, but not in the home: should one come back, it is counted again.
    away: Vec<(Stamp, Tally)>,
    /// Files that are there and could not be opened.
    unopened: Vec<HistoryFile>,
    /// How often lines were dropped.
    drops: u64,
}

/// How far somebody has read the lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Position {
    drops: u64,
    read_bytes: BTreeMap<u32, u64>,
}

/// A run's line; small, because there may be very many.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    stamp: UnixSeconds,
    offset: u64,
    slug: u32,
    file: u32,
    /// [`NO_DURATION`] where the agent never started.
    duration_secs: u32,
    status: Status,
}

/// A line that can be read while others use the history: its file is held open.
#[derive(Debug)]
pub(crate) struct UnreadLine {
    file: Arc<File>,
    run: RunId,
    line: Line,
}

impl UnreadLine {
    pub(crate) fn run(&self) -> &RunId {
        &self.run
    }

    /// Reads it; `None` if that is not possible, and then [`HistoryIndex::drop_unreadable`] deals with it.
    pub(crate) fn read(&self) -> Option<Past> {
        let past = Past::parse(&line_at(&self.file, self.line.offset).ok()?)?;
        (past.outcome.id == self.run && past.outcome.status == self.line.status).then_some(past)
    }
}

impl Line {
    /// Returns the time from the agent's start to the run's end, if it started.
    pub(crate) fn duration_secs(&self) -> Option<u64> {
        (self.duration_secs != NO_DURATION).then(|| self.duration_secs.into())
    }

    pub(crate) fn stamp(&self) -> UnixSeconds {
        self.stamp
    }

    pub(crate) fn status(&self) -> Status {
        self.status
    }
}

/// How often the files are listed again if one that was not removed is missing.
const LISTED_AGAIN: usize = 2;

impl HistoryIndex {
    /// Reads what was added since the last time, and returns all.
    ///
    /// # Errors
    /// The home cannot be listed, or a file cannot be read to its end.
    pub(crate) fn read(&self, home: &Home) -> Result<MutexGuard<'_, Lines>, FileError> {
        let mut lines = self.lock();
        lines.refresh(home)?;
        Ok(lines)
    }

    /// Returns what the history says about a run.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn find(&self, home: &Home, run: &RunId) -> Result<Option<Past>, FileError> {
        loop {
            let mut lines = self.read(home)?;
            let Some(line) = lines.find(run).copied() else { return Ok(None) };
            match lines.past(&line) {
                Some(past) => return Ok(Some(past)),
                None => lines.drop_unreadable(&line),
            }
        }
    }

    /// Returns what the history says about the newest run of a routine that ended in one way.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn newest_with(&self, home: &Home, routine: &Slug, status: Status) -> Result<Option<Past>, FileError> {
        loop {
            let mut lines = self.read(home)?;
            let Some(number) = lines.slugs.find(routine) else { return Ok(None) };
            let newest = lines.newest_first().find(|line| line.slug == number && line.status == status).copied();
            let Some(line) = newest else { return Ok(None) };
            match lines.past(&line) {
                Some(past) => return Ok(Some(past)),
                None => lines.drop_unreadable(&line),
            }
        }
    }

    /// Returns when the newest run of a routine was triggered, as of the last [`Self::read`].
    pub(crate) fn newest(&self, routine: &Slug) -> Option<UnixSeconds> {
        let lines = self.lock();
        let number = lines.slugs.find(routine)?;
        *lines.newest.get(number as usize)?
    }

    /// Forgets lines that could not be read by somebody who had read so far.
    pub(crate) fn drop_unreadable(&self, unreadable: &[UnreadLine], position: &Position) {
        if unreadable.is_empty() {
            return;
        }
        let mut lines = self.lock();
        // After others have dropped some, a number may be that of another file; the next look finds what is still there.
        if lines.drops == position.drops {
            unreadable.iter().for_each(|unread| lines.drop_unreadable(&unread.line));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    /// Returns the lines, the newest run first, each run once.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &Line> {
        let mut before = None;
        self.lines.iter().rev().filter(move |line| {
            let run = Some((line.stamp, line.slug));
            std::mem::replace(&mut before, run) != run
        })
    }

    /// Returns how far they are read.
    pub(crate) fn position(&self) -> Position {
        let read_bytes = self.files.iter().map(|(number, file)| (*number, file.read_bytes)).collect();
        Position { drops: self.drops, read_bytes }
    }

    /// Returns the lines of the runs that came since somebody had read so far, the oldest first; `None` if lines were dropped since.
    pub(crate) fn added_since(&self, position: &Position) -> Option<Vec<Line>> {
        let is_new = |line: &Line| position.read_bytes.get(&line.file).is_none_or(|read| line.offset >= *read);
        let of_one_run = self.lines.chunk_by(|one, other| (one.stamp, one.slug) == (other.stamp, other.slug));
        // A run with an older line was seen.
        let added = of_one_run.filter(|lines| lines.iter().all(is_new)).filter_map(|lines| lines.last().copied());
        (position.drops == self.drops).then(|| added.collect())
    }

    /// Whether a run has a line.
    pub(crate) fn has(&self, run: &RunId) -> bool {
        self.find(run).is_some()
    }

    fn find(&self, run: &RunId) -> Option<&Line> {
        let key = (run.stamp(), run.routine());
        let found = self.lines.binary_search_by(|line| (line.stamp, self.routine(line)).cmp(&key));
        found.ok().map(|at| &self.lines[at])
    }

    pub(crate) fn routine(&self, line: &Line) -> &Slug {
        self.slugs.named(line.slug)
    }

    /// Counts all runs whose end this process has seen in the history. While it lives, no count falls because a file is removed.
    pub(crate) fn tally(&self) -> RunTally<'_> {
        let mut all = Tally::default();
        let known = self.files.values().map(|file| &file.tally).chain(self.away.iter().map(|(_, tally)| tally));
        known.chain([&self.gone]).for_each(|tally| all.add(tally));
        RunTally::of(all, &self.slugs)
    }

    /// Makes sure that all files that may have runs of a time were read.
    ///
    /// # Errors
    /// One of them cannot be opened: what is in it is not known.
    pub(crate) fn check_since(&self, since: UnixSeconds) -> Result<(), FileError> {
        let may_have = |file: &&HistoryFile| file.closed_at.is_none_or(|at| at.plus_secs(CLOCK_MARGIN_SECS) >= since);
        match self.unopened.iter().find(may_have) {
            Some(file) => {
                Err(FileError::damaged(&file.path, "it cannot be opened, so nobody knows which runs are in it"))
            }
            None => Ok(()),
        }
    }

    /// Returns how many lines could not be read.
    pub(crate) fn damaged(&self) -> u64 {
        self.files.values().map(|file| file.damaged).sum()
    }

    /// Reads a line; `None` if that is not possible, and then [`Self::drop_unreadable`] deals with it.
    pub(crate) fn past(&self, line: &Line) -> Option<Past> {
        self.unread(line)?.read()
    }

    /// Returns what is needed to read a line once the history is let go.
    pub(crate) fn unread(&self, line: &Line) -> Option<UnreadLine> {
        let file = Arc::clone(&self.files.get(&line.file)?.file);
        Some(UnreadLine { file, run: RunId::new(self.routine(line).clone(), line.stamp), line: *line })
    }

    /// Forgets a line that [`Self::past`] could not read. If its file was edited, the next look reads that again; otherwise the
    /// line is damaged where only the whole of it shows that.
    pub(crate) fn drop_unreadable(&mut self, unreadable: &Line) {
        let Line { file, offset, .. } = *unreadable;
        self.drops += 1;
        let Some(indexed) = self.files.get_mut(&file) else { return };
        let is_as_indexed = line_at(&indexed.file, offset).is_ok_and(|text| match LineHead::parse(&text) {
            Ok(Some(LineHead { id, status, .. })) => {
                let routine = self.slugs.named(unreadable.slug).as_str();
                parts(&id) == Some((routine, unreadable.stamp)) && status == unreadable.status
            }
            _ => false,
        });
        if is_as_indexed {
            let count = self.lines.len();
            self.lines.retain(|line| (line.file, line.offset) != (file, offset));
            // Not a second time if somebody else found it, too.
            indexed.damaged += u64::from(self.lines.len() < count);
        } else {
            self.files.remove(&file);
            self.lines.retain(|line| line.file != file);
        }
        self.sort_in(0);
    }

    fn refresh(&mut self, home: &Home) -> Result<(), FileError> {
        let mut listed = self.list(home)?;
        // Oldest first, so that most lines come in order.
        listed.reverse();
        // Files only grow, and go as a whole. After any other change a file is read again.
        let is_as_read = |known: &IndexedFile| {
            let now = listed.iter().find(|file| file.stamp.is_same_file(&known.stamp));
            now.is_some_and(|file| !known.is_edited(&file.stamp))
        };
        self.unopened.clear();
        for known in self.files.values_mut().filter(|known| !known.is_in(&listed)) {
            let tally = std::mem::take(&mut known.tally);
            match (known.is_removed(), listed.iter().any(|file| file.path == known.path)) {
                // An editor replaced it: its runs are in the new file.
                (true, true) => {}
                (true, false) => self.gone.add(&tally),
                (false, _) => self.away.push((known.stamp, tally)),
            }
        }
        let count = self.files.len();
        self.files.retain(|_, known| is_as_read(known));
        let mut known = self.lines.len();
        if self.files.len() < count {
            self.drops += 1;
            self.lines.retain(|line| self.files.contains_key(&line.file));
            known = 0;
        }
        for known in self.files.values_mut() {
            if let Some(file) = listed.iter().find(|file| file.stamp.is_same_file(&known.stamp)) {
                known.path.clone_from(&file.path);
            }
        }
        let first_new = self.lines.len();
        let read = listed.iter().try_for_each(|file| self.read_on(file));
        for line in &self.lines[first_new..] {
            if let Some(file) = self.files.get_mut(&line.file) {
                file.tally.count(line.slug, line.status, line.duration_secs());
            }
        }
        self.sort_in(known);
        read
    }

    /// Lists the files, the newest first. One that gets another name meanwhile may be listed under neither, and is there.
    fn list(&self, home: &Home) -> Result<Vec<HistoryFile>, FileError> {
        let mut listed = files::list(home)?;
        for _ in 0..LISTED_AGAIN {
            if self.files.values().all(|known| known.is_in(&listed) || known.is_removed()) {
                break;
            }
            listed = files::list(home)?;
        }
        Ok(listed)
    }

    /// Sorts in the lines behind the first `known`, of which all is known.
    fn sort_in(&mut self, known: usize) {
        let Self { lines, slugs, newest, costs, .. } = self;
        if known == 0 {
            newest.clear();
            *costs = KnownCosts::default();
        }
        newest.resize(slugs.len(), None);
        let key = |line: &Line| (line.stamp, slugs.named(line.slug));
        let Some(first) = lines[known..].iter().map(key).min() else { return };
        for line in &lines[known..] {
            let newest = &mut newest[line.slug as usize];
            *newest = (*newest).max(Some(line.stamp));
        }
        // Runs end in almost the order in which they were triggered, so only the last few are sorted.
        let from = lines[..known].partition_point(|line| key(line) <= first);
        lines[from..].sort_by(|a, b| key(a).cmp(&key(b)));
    }

    /// Reads what was added to a file, or all of one that is new.
    fn read_on(&mut self, listed: &HistoryFile) -> Result<(), FileError> {
        let fail = |source| FileError::io("read", &listed.path, source);
        let known = self.files.iter().find(|(_, known)| known.stamp.is_same_file(&listed.stamp));
        let number = match known {
            Some((_, known)) if known.read_bytes >= listed.stamp.size() => return Ok(()),
            Some((number, _)) => *number,
            None => {
                self.away.retain(|(stamp, _)| !stamp.is_same_file(&listed.stamp));
                // One that cannot be opened was closed or removed since it was listed, and the next look finds it; or it is
                // damaged as a whole, which hides no other, and which health reports.
                let (file, stamp) = match atomic_file::open_with_stamp(&listed.path) {
                    Ok(opened) => opened,
                    Err(error) => {
                        self.unopened.extend((!error.is_not_found()).then(|| listed.clone()));
                        return Ok(());
                    }
                };
                let number = self.files.last_key_value().map_or(0, |(last, _)| last + 1);
                let (end_hash, tally) = (stable_hash(&[]), Tally::default());
                let path = listed.path.clone();
                let empty =
                    IndexedFile { file: Arc::new(file), path, stamp, read_bytes: 0, end_hash, damaged: 0, tally };
                self.files.insert(number, empty);
                number
            }
        };
        let read = self.read_lines(number);
        let Some(file) = self.files.get_mut(&number) else { return Ok(()) };
        // Where it cannot be read, it is not what it was, and all is read again.
        file.end_hash = file.hash_of_end().unwrap_or_default();
        file.stamp = Stamp::from(&file.file.metadata().map_err(fail)?);
        read.map_err(fail)
    }

    fn read_lines(&mut self, number: u32) -> std::io::Result<()> {
        let Some(file) = self.files.get_mut(&number) else { return Ok(()) };
        let mut reader = BufReader::with_capacity(256 * 1024, file.file.try_clone()?);
        reader.seek(SeekFrom::Start(file.read_bytes))?;
        let mut text = Vec::new();
        loop {
            text.clear();
            // A damaged line may be of any length; read in pieces, none of which is a record.
            let read = reader.by_ref().take(MAX_RECORD_BYTES).read_until(b'\n', &mut text)? as u64;
            if read == 0 || (text.last() != Some(&b'\n') && read < MAX_RECORD_BYTES) {
                // The end, or a line that is being written.
                return Ok(());
            }
            match LineHead::parse(&text) {
                Ok(Some(LineHead { id, status, duration_secs })) => {
                    let run = parts(&id).and_then(|(slug, stamp)| Some((self.slugs.number(slug)?, stamp)));
                    match run {
                        Some((slug, stamp)) => {
                            let offset = file.read_bytes;
                            self.lines.push(Line { stamp, offset, slug, file: number, duration_secs, status });
                        }
                        None => file.damaged += 1,
                    }
                }
                Ok(None) => {}
                Err(_) => file.damaged += 1,
            }
            // What was read stays known, and is not read again.
            file.read_bytes += read;
        }
    }
}
