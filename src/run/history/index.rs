//! Where in the history each run's line is: kept in memory, and extended as the files grow.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{self, AtomicBool};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::files;
use super::line::{Past, PastLine};
use crate::clock::UnixSeconds;
use crate::home::atomic_file::{self, FileError, MAX_RECORD_BYTES};
use crate::home::{Home, stable_hash};
use crate::routine::slug::Slug;
use crate::run::id::{RunId, parts};
use crate::run::status::Status;

/// What a process knows of the history. Reading it again costs no more than the files have grown.
#[derive(Debug, Default)]
pub struct HistoryIndex {
    lines: Mutex<Lines>,
    complete: AtomicBool,
}

/// The indexed lines of runs.
#[derive(Debug, Default)]
pub struct Lines {
    files: Vec<IndexedFile>,
    slugs: Slugs,
    /// Oldest run first, each run once.
    lines: Vec<Line>,
}

/// A run's line; small, because there may be very many.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    stamp: UnixSeconds,
    offset: u64,
    slug: u32,
    file: u32,
    status: Status,
}

impl Line {
    pub(crate) fn stamp(&self) -> UnixSeconds {
        self.stamp
    }

    pub(crate) fn status(&self) -> Status {
        self.status
    }
}

/// A file of which every whole line was read. It is held open: it gets another name when it is closed, and none when it is
/// removed.
#[derive(Debug)]
struct IndexedFile {
    file: File,
    identity: (u64, u64),
    read_bytes: u64,
    /// The hash of the last bytes that were read: lines are only ever added behind them.
    end_hash: u64,
    modified: (i64, i64),
    damaged: u64,
}

/// How much before the end of what was read is compared when a file has grown: several lines.
const COMPARED_BYTES: u64 = 4 * 1024;

impl IndexedFile {
    /// Whether the file was changed other than by adding lines.
    fn is_edited(&self, metadata: &Metadata) -> bool {
        match self.read_bytes.cmp(&metadata.len()) {
            Ordering::Greater => true,
            Ordering::Equal => self.modified != modified(metadata),
            Ordering::Less => self.hash_of_end() != Some(self.end_hash),
        }
    }

    fn hash_of_end(&self) -> Option<u64> {
        let start = self.read_bytes.saturating_sub(COMPARED_BYTES);
        let mut end = vec![0; usize::try_from(self.read_bytes - start).ok()?];
        self.file.read_exact_at(&mut end, start).ok()?;
        Some(stable_hash(&end))
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn modified(metadata: &Metadata) -> (i64, i64) {
    (metadata.mtime(), metadata.mtime_nsec())
}

/// The names of routines, so that a line needs only a number.
#[derive(Debug, Default)]
struct Slugs {
    all: Vec<Slug>,
    numbers: HashMap<Slug, u32>,
}

impl Slugs {
    fn number(&mut self, slug: &str) -> Option<u32> {
        if let Some(number) = self.numbers.get(slug) {
            return Some(*number);
        }
        let number = u32::try_from(self.all.len()).ok()?;
        let slug: Slug = slug.parse().ok()?;
        self.all.push(slug.clone());
        self.numbers.insert(slug, number);
        Some(number)
    }

    fn of(&self, line: &Line) -> &Slug {
        &self.all[line.slug as usize]
    }
}

impl HistoryIndex {
    /// Reads what was added since the last time, and returns all.
    ///
    /// # Errors
    /// The home cannot be listed, or a file cannot be read to its end.
    pub(crate) fn read(&self, home: &Home) -> Result<MutexGuard<'_, Lines>, FileError> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.refresh(home)?;
        Ok(lines)
    }

    /// Returns what the history says about a run.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn find(&self, home: &Home, run: &RunId) -> Result<Option<Past>, FileError> {
        for _ in 0..2 {
            let mut lines = self.read(home)?;
            let Some(line) = lines.find(run) else { return Ok(None) };
            if let Some(past) = lines.past(line) {
                return Ok(Some(past));
            }
            // Somebody edited the file in place.
            *lines = Lines::default();
        }
        Ok(None)
    }

    /// Returns when the newest run of each routine in the history was triggered.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn newest(&self, home: &Home) -> Result<HashMap<Slug, UnixSeconds>, FileError> {
        let Lines { slugs, lines, .. } = &*self.read(home)?;
        let mut newest = vec![None; slugs.all.len()];
        lines.iter().for_each(|line| newest[line.slug as usize] = Some(line.stamp));
        Ok(slugs.all.iter().zip(newest).filter_map(|(slug, at)| Some((slug.clone(), at?))).collect())
    }

    /// Forgets all lines, because one of them is not what it was: the next look reads all files again.
    pub(crate) fn forget(&self) {
        *self.lines.lock().unwrap_or_else(PoisonError::into_inner) = Lines::default();
    }

    /// Whether this process has made sure that every run that ended has a line.
    pub(super) fn is_complete(&self) -> bool {
        self.complete.load(atomic::Ordering::Relaxed)
    }

    pub(super) fn set_complete(&self) {
        self.complete.store(true, atomic::Ordering::Relaxed);
    }
}

impl Lines {
    /// Returns the lines, the newest run first, each run once.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().rev()
    }

    pub(super) fn contains(&self, run: &RunId) -> bool {
        self.find(run).is_some()
    }

    fn find(&self, run: &RunId) -> Option<&Line> {
        let key = (run.stamp(), run.routine());
        let found = self.lines.binary_search_by(|line| (line.stamp, self.routine(line)).cmp(&key));
        found.ok().map(|at| &self.lines[at])
    }

    pub(crate) fn routine(&self, line: &Line) -> &Slug {
        self.slugs.of(line)
    }

    /// Returns how many lines could not be read.
    pub(crate) fn damaged(&self) -> u64 {
        self.files.iter().map(|file| file.damaged).sum()
    }

    /// Reads a line; `None` if it is not what it was, because somebody edits the file.
    pub(crate) fn past(&self, line: &Line) -> Option<Past> {
        let text = line_at(&self.files.get(line.file as usize)?.file, line.offset)?;
        let past = Past::from(PastLine::parse(&text)?);
        let id = RunId::new(self.routine(line).clone(), line.stamp);
        (past.outcome.id == id && past.outcome.status == line.status).then_some(past)
    }

    fn refresh(&mut self, home: &Home) -> Result<(), FileError> {
        let mut found = Vec::new();
        // Oldest first, so that most lines come in order.
        for file in files::list(home)?.into_iter().rev() {
            // One that cannot be opened was closed or removed since it was listed, and the next look finds it; or it is
            // damaged as a whole, which hides no other, and which health reports.
            let Ok(opened) = atomic_file::open_regular(&file.path) else { continue };
            let metadata = opened.metadata().map_err(|source| FileError::io("look at", &file.path, source))?;
            found.push((file.path, opened, metadata));
        }
        // Files only grow, and go as a whole. After any other change all are read again.
        let is_as_read = |file: &IndexedFile| {
            let now = found.iter().find(|(_, _, metadata)| identity(metadata) == file.identity);
            now.is_some_and(|(_, _, metadata)| !file.is_edited(metadata))
        };
        if !self.files.iter().all(is_as_read) {
            *self = Self::default();
        }
        let known = self.lines.len();
        let read = found.into_iter().try_for_each(|(path, file, metadata)| self.read_on(&path, file, &metadata));
        if self.lines.len() > known {
            let Self { lines, slugs, .. } = self;
            let key = |line: &Line| (line.stamp, slugs.of(line));
            // Runs end in almost the order in which they were triggered, which this sort makes use of.
            lines.sort_by(|a, b| key(a).cmp(&key(b)));
            lines.dedup_by(|a, b| key(a) == key(b));
        }
        read
    }

    /// Reads what was added to a file, or all of one that is new.
    fn read_on(&mut self, path: &Path, file: File, metadata: &Metadata) -> Result<(), FileError> {
        let fail = |source| FileError::io("read", path, source);
        let identity = identity(metadata);
        let at = self.files.iter().position(|known| known.identity == identity).unwrap_or(self.files.len());
        if at == self.files.len() {
            let (read_bytes, end_hash, modified, damaged) = (0, stable_hash(&[]), (0, 0), 0);
            self.files.push(IndexedFile { file, identity, read_bytes, end_hash, modified, damaged });
        }
        let mut read = Ok(());
        if self.files[at].read_bytes < metadata.len() {
            read = self.read_lines(at);
            let file = &mut self.files[at];
            // Where it cannot be read, it is not what it was, and all is read again.
            file.end_hash = file.hash_of_end().unwrap_or_default();
        }
        let file = &mut self.files[at];
        // After reading: what is added from here on makes the file longer than what was read of it.
        file.modified = modified(&file.file.metadata().map_err(fail)?);
        read.map_err(fail)
    }

    fn read_lines(&mut self, at: usize) -> std::io::Result<()> {
        let number = u32::try_from(at).map_err(std::io::Error::other)?;
        let file = &mut self.files[at];
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
                Ok(Some(LineHead { id, status })) => {
                    let run = parts(&id).and_then(|(slug, stamp)| Some((self.slugs.number(slug)?, stamp)));
                    match run {
                        Some((slug, stamp)) => {
                            self.lines.push(Line { stamp, offset: file.read_bytes, slug, file: number, status });
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

/// What of a run's line is indexed.
struct LineHead<'a> {
    id: Cow<'a, str>,
    status: Status,
}

impl<'a> LineHead<'a> {
    /// Reads a line; `None` if it is not about a run.
    ///
    /// # Errors
    /// The line is damaged.
    fn parse(text: &'a [u8]) -> serde_json::Result<Option<Self>> {
        // What every outcome has must be there, and is skipped: reading it would take several times as long.
        #[derive(Deserialize)]
        #[allow(dead_code, reason = "only their presence counts")]
        struct OfRun<'a> {
            #[serde(default, borrow)]
            kind: Option<Cow<'a, str>>,
            #[serde(borrow)]
            id: Cow<'a, str>,
            #[serde(borrow)]
            status: Cow<'a, str>,
            version: IgnoredAny,
            agent: IgnoredAny,
            session_host: IgnoredAny,
            triggered_at: IgnoredAny,
            finished_at: IgnoredAny,
            retain_from: IgnoredAny,
            cookie: IgnoredAny,
        }
        #[derive(Deserialize)]
        struct OfAnyKind<'a> {
            #[serde(borrow)]
            kind: Cow<'a, str>,
        }
        match serde_json::from_slice::<OfRun<'a>>(text) {
            Ok(OfRun { kind, id, status, .. }) if kind.as_ref().is_none_or(|kind| kind == "run") => {
                // Any other status is a newer program's.
                let status = serde_json::from_value(status.into()).unwrap_or(Status::Unknown);
                Ok(Some(Self { id, status }))
            }
            Ok(_) => Ok(None),
            Err(error) => match serde_json::from_slice::<OfAnyKind<'_>>(text) {
                Ok(line) if line.kind != "run" => Ok(None),
                _ => Err(error),
            },
        }
    }
}

fn line_at(file: &File, mut offset: u64) -> Option<Vec<u8>> {
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
