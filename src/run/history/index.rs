//! Which runs the history tells of, and where: kept in memory, and extended as the files grow.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{self, AtomicBool};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;

use super::files;
use super::{Past, PastLine};
use crate::clock::UnixSeconds;
use crate::home::atomic_file::{self, FileError, MAX_RECORD_BYTES};
use crate::home::{Home, stable_hash};
use crate::routine::slug::Slug;
use crate::run::id::{RunId, parts};
use crate::run::record::Outcome;
use crate::run::status::Status;

/// What a process knows of the history. Reading it anew is as cheap as looking whether the files have grown.
#[derive(Debug, Default)]
pub struct HistoryIndex {
    lines: Mutex<Lines>,
    complete: AtomicBool,
}

/// Where each run's line is, oldest run first.
#[derive(Debug, Default)]
pub struct Lines {
    segments: Vec<Segment>,
    segments_made: u32,
    slugs: Vec<Slug>,
    numbers: HashMap<Slug, u32>,
    /// When the newest run of each routine was triggered.
    newest: Arc<HashMap<Slug, UnixSeconds>>,
    lines: Vec<Line>,
    /// Whether they are in order: not so while a reading broke off.
    in_order: bool,
}

/// A run's line; small, for there may be very many.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    stamp: UnixSeconds,
    offset: u64,
    slug: u32,
    segment: u32,
    status: Status,
}

/// A file of which every whole line was read. It is held open: closing it, or removing it, gives it another name or none.
#[derive(Debug)]
struct Segment {
    number: u32,
    file: File,
    identity: (u64, u64),
    read_bytes: u64,
    /// The hash of the last bytes that were read: lines are only ever added behind them.
    end_hash: u64,
    written: (i64, i64),
    damaged: u64,
}

/// How much before the end of what was read is compared when a file has grown: a line of average length, with its cookie.
const END_BYTES: u64 = 4 * 1024;

impl Segment {
    /// Whether the file was changed other than by adding lines.
    fn is_edited(&self, metadata: &Metadata) -> bool {
        match self.read_bytes.cmp(&metadata.len()) {
            Ordering::Greater => true,
            Ordering::Equal => self.written != (metadata.mtime(), metadata.mtime_nsec()),
            Ordering::Less => self.hash_of_end() != Some(self.end_hash),
        }
    }

    fn note_end(&mut self) {
        // Where it cannot be read, it is not what it was, and the file is read again.
        self.end_hash = self.hash_of_end().unwrap_or_default();
    }

    fn hash_of_end(&self) -> Option<u64> {
        let start = self.read_bytes.saturating_sub(END_BYTES);
        let mut end = vec![0; usize::try_from(self.read_bytes - start).ok()?];
        self.file.read_exact_at(&mut end, start).ok()?;
        Some(stable_hash(&end))
    }
}

impl HistoryIndex {
    /// Reads what was added since the last time, and returns all.
    ///
    /// # Errors
    /// The home cannot be listed, or a file of it breaks off.
    pub fn read(&self, home: &Home) -> Result<MutexGuard<'_, Lines>, FileError> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.refresh(home)?;
        Ok(lines)
    }

    /// Reads all of it again, because the lines of these runs are not what they were; those that still cannot be read are
    /// left out from here on, and counted as damaged.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn reread(&self, home: &Home, doubtful: &[RunId]) -> Result<MutexGuard<'_, Lines>, FileError> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        *lines = Lines { segments_made: lines.segments_made, ..Lines::default() };
        lines.refresh(home)?;
        lines.leave_out_unreadable(doubtful);
        Ok(lines)
    }

    /// Returns what the history tells of a run.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn find(&self, home: &Home, run: &RunId) -> Result<Option<Past>, FileError> {
        let lines = self.read(home)?;
        let Some(line) = lines.find(run) else { return Ok(None) };
        if let Some(past) = lines.past(line) {
            return Ok(Some(past));
        }
        drop(lines);
        let lines = self.reread(home, std::slice::from_ref(run))?;
        Ok(lines.find(run).and_then(|line| lines.past(line)))
    }

    /// Returns when the newest run of each routine was triggered that the history tells of.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn newest(&self, home: &Home) -> Result<Arc<HashMap<Slug, UnixSeconds>>, FileError> {
        Ok(Arc::clone(&self.read(home)?.newest))
    }

    /// Whether this process has made sure that every run that ended has a line.
    pub(super) fn is_complete(&self) -> bool {
        self.complete.load(atomic::Ordering::Relaxed)
    }

    pub(super) fn set_complete(&self) {
        self.complete.store(true, atomic::Ordering::Relaxed);
    }
}

impl Line {
    /// Returns the second that is in the run's name.
    #[must_use]
    pub fn stamp(&self) -> UnixSeconds {
        self.stamp
    }

    /// Returns how the run ended.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }
}

impl Lines {
    /// Returns the lines, the newest run first, each run once.
    pub fn newest_first(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().rev()
    }

    /// Whether there is a line of a run.
    #[must_use]
    pub fn contains(&self, run: &RunId) -> bool {
        self.find(run).is_some()
    }

    fn leave_out_unreadable(&mut self, doubtful: &[RunId]) {
        let unreadable = |run: &RunId| self.find(run).filter(|line| self.past(line).is_none()).copied();
        let unreadable: Vec<Line> = doubtful.iter().filter_map(unreadable).collect();
        if unreadable.is_empty() {
            return;
        }
        for line in &unreadable {
            if let Some(segment) = self.segments.iter_mut().find(|segment| segment.number == line.segment) {
                segment.damaged += 1;
            }
        }
        let at = |line: &Line| (line.segment, line.offset);
        self.lines.retain(|line| !unreadable.iter().any(|unreadable| at(unreadable) == at(line)));
        self.note_all_newest();
    }

    fn note_all_newest(&mut self) {
        let mut newest = HashMap::new();
        self.lines.iter().for_each(|line| note_newest(&mut newest, &self.slugs[line.slug as usize], line.stamp));
        self.newest = Arc::new(newest);
    }

    fn find(&self, run: &RunId) -> Option<&Line> {
        let key = |line: &Line| (line.stamp, &self.slugs[line.slug as usize]);
        let found = self.lines.binary_search_by(|line| key(line).cmp(&(run.stamp(), run.routine())));
        found.ok().map(|at| &self.lines[at])
    }

    /// Returns the routine of a line.
    #[must_use]
    pub fn routine(&self, line: &Line) -> &Slug {
        &self.slugs[line.slug as usize]
    }

    /// Returns how many lines could not be read.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.segments.iter().map(|segment| segment.damaged).sum()
    }

    /// Reads a line; `None` if it is not what it was, for somebody edits the file.
    #[must_use]
    pub fn past(&self, line: &Line) -> Option<Past> {
        let segment = self.segments.iter().find(|segment| segment.number == line.segment)?;
        let text = read_line(&segment.file, line.offset)?;
        let past = Past::from(PastLine::parse(&text)?);
        let Outcome { id, status, .. } = &past.outcome;
        let same = id.stamp() == line.stamp && id.routine() == self.routine(line) && *status == line.status;
        same.then_some(past)
    }

    fn refresh(&mut self, home: &Home) -> Result<(), FileError> {
        let mut seen = Vec::new();
        // Oldest first, so that most lines come in order.
        for found in files::list(home)?.iter().rev() {
            let file = match atomic_file::open_regular(&found.path) {
                Ok(file) => file,
                // Closed or removed since it was listed, and the next look finds it; or it is damaged as a whole, which hides
                // no other, and which health names.
                Err(_) => continue,
            };
            let metadata = file.metadata().map_err(|source| FileError::io("look at", &found.path, source))?;
            let identity = (metadata.dev(), metadata.ino());
            let written = (0, 0);
            let known = self.segments.iter().position(|segment| segment.identity == identity);
            let at = match known {
                Some(at) if !self.segments[at].is_edited(&metadata) => at,
                _ => {
                    if let Some(at) = known {
                        self.forget(at);
                    }
                    self.segments_made += 1;
                    let number = self.segments_made;
                    let read_bytes = 0;
                    self.segments.push(Segment {
                        number,
                        file,
                        identity,
                        read_bytes,
                        end_hash: stable_hash(&[]),
                        written,
                        damaged: 0,
                    });
                    self.segments.len() - 1
                }
            };
            seen.push(identity);
            if self.segments[at].read_bytes < metadata.len() {
                let read = self.extend(at, &found.path);
                self.segments[at].note_end();
                read?;
            }
            // After reading: what is added from here on makes the file longer than what was read of it.
            let after =
                self.segments[at].file.metadata().map_err(|source| FileError::io("look at", &found.path, source))?;
            self.segments[at].written = (after.mtime(), after.mtime_nsec());
        }
        while let Some(at) = self.segments.iter().position(|segment| !seen.contains(&segment.identity)) {
            self.forget(at);
        }
        if !self.in_order {
            let Self { lines, slugs, .. } = self;
            let key = |line: &Line| (line.stamp, &slugs[line.slug as usize]);
            // Runs end in almost the order in which they were triggered, which this sort makes use of.
            lines.sort_by(|a, b| key(a).cmp(&key(b)));
            lines.dedup_by(|a, b| key(a) == key(b));
            self.in_order = true;
        }
        Ok(())
    }

    fn forget(&mut self, at: usize) {
        let gone = self.segments.swap_remove(at).number;
        self.lines.retain(|line| line.segment != gone);
        self.note_all_newest();
    }

    /// Reads what was added to a file.
    fn extend(&mut self, at: usize, path: &Path) -> Result<(), FileError> {
        let fail = |source| FileError::io("read", path, source);
        let mut reader = BufReader::with_capacity(256 * 1024, self.segments[at].file.try_clone().map_err(fail)?);
        let mut offset = self.segments[at].read_bytes;
        reader.seek(SeekFrom::Start(offset)).map_err(fail)?;
        let number = self.segments[at].number;
        let mut text = Vec::new();
        loop {
            text.clear();
            // A damaged line may be of any length; read in pieces, none of which is a record.
            let read = reader.by_ref().take(MAX_RECORD_BYTES).read_until(b'\n', &mut text);
            // What was read stays known, and is not read again.
            self.segments[at].read_bytes = offset;
            let read = read.map_err(fail)? as u64;
            if read == 0 || (text.last() != Some(&b'\n') && read < MAX_RECORD_BYTES) {
                // The end, or a line that is being written.
                break;
            }
            match Told::by(&text) {
                Told::Run(id, status) => match parts(&id).and_then(|(slug, stamp)| Some((self.number(slug)?, stamp))) {
                    Some((slug, stamp)) => {
                        let line = Line { stamp, offset, slug, segment: number, status };
                        let key = |line: &Line| (line.stamp, &self.slugs[line.slug as usize]);
                        self.in_order &= self.lines.last().is_none_or(|last| key(last) < key(&line));
                        note_newest(Arc::make_mut(&mut self.newest), &self.slugs[slug as usize], stamp);
                        self.lines.push(line);
                    }
                    None => self.segments[at].damaged += 1,
                },
                Told::Other => {}
                Told::Nothing => self.segments[at].damaged += 1,
            }
            offset += read;
        }
        Ok(())
    }

    fn number(&mut self, slug: &str) -> Option<u32> {
        if let Some(number) = self.numbers.get(slug) {
            return Some(*number);
        }
        let number = u32::try_from(self.slugs.len()).ok()?;
        let slug: Slug = slug.parse().ok()?;
        self.slugs.push(slug.clone());
        self.numbers.insert(slug, number);
        Some(number)
    }
}

fn note_newest(newest: &mut HashMap<Slug, UnixSeconds>, slug: &Slug, stamp: UnixSeconds) {
    match newest.get_mut(slug) {
        Some(newest) => *newest = stamp.max(*newest),
        None => drop(newest.insert(slug.clone(), stamp)),
    }
}

/// What a line tells.
enum Told<'a> {
    /// How the run of this name ended.
    Run(Cow<'a, str>, Status),
    /// Something else.
    Other,
    /// Nothing: it is damaged.
    Nothing,
}

impl<'a> Told<'a> {
    fn by(text: &'a [u8]) -> Self {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(default, borrow)]
            kind: Option<Cow<'a, str>>,
            #[serde(default, borrow)]
            id: Option<Cow<'a, str>>,
            #[serde(default, borrow)]
            status: Option<Cow<'a, str>>,
        }
        let Ok(head) = serde_json::from_slice::<Head<'a>>(text) else { return Self::Nothing };
        if head.kind.is_some_and(|kind| kind != "run") {
            return Self::Other;
        }
        let status = head.status.and_then(|name| serde_json::from_value(serde_json::Value::from(name)).ok());
        // Of a newer program, perhaps.
        let status = status.unwrap_or(Status::Unknown);
        head.id.map_or(Self::Nothing, |id| Self::Run(id, status))
    }
}

fn read_line(file: &File, mut offset: u64) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let mut piece = [0; 8 * 1024];
    while (text.len() as u64) < MAX_RECORD_BYTES {
        let count = file.read_at(&mut piece, offset).ok()?;
        if count == 0 {
            break;
        }
        if let Some(end) = piece[..count].iter().position(|byte| *byte == b'\n') {
            text.extend_from_slice(&piece[..end]);
            return Some(text);
        }
        text.extend_from_slice(&piece[..count]);
        offset += count as u64;
    }
    None
}
