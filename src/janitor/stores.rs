//! Everything that a home stores, in one table: how large and how old it may get, and what its loss costs.
//!
//! Workbenches, history and trash are bounded by the sweep. Archives and mirrors are by [`tidy`], at most once a day.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::DirEntry;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::BinaryBytes;
use schemars::JsonSchema;
use serde::Serialize;

use super::remove;
use crate::archive::{self, Archive};
use crate::clock::UnixSeconds;
use crate::git::ObjectId;
use crate::home::atomic_file::{self, FileError};
use crate::home::config::{Config, MIN_ARCHIVE_AGE_SECS};
use crate::home::lock::{FileLock, Mode};
use crate::home::{self, Home};
use crate::run::context::Context;
use crate::run::entry::Entry;
use crate::run::history;
use crate::run::workbench::Workbench;

/// What a home stores of one kind.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Store {
    pub(crate) name: &'static str,
    /// Its size on disk.
    pub(crate) bytes: u64,
    /// False if measuring took too long: then there is more.
    pub(crate) bytes_complete: bool,
    pub(crate) max_bytes: Option<u64>,
    /// How old its parts may get.
    pub(crate) max_age_secs: Option<u64>,
    /// What can get back what is removed.
    pub(crate) if_lost: IfLost,
    /// What goes next unless a bound of bytes comes first.
    pub(crate) goes_next: Option<GoesNext>,
}

/// The oldest part of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GoesNext {
    pub(crate) name: String,
    /// When it is too old.
    pub(crate) at: UnixSeconds,
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.bytes_complete { "" } else { "more than " };
        write!(f, "{more}{}", BinaryBytes(self.bytes))?;
        if let Some(max) = self.max_bytes {
            write!(f, " of {}", BinaryBytes(max))?;
        }
        match &self.goes_next {
            Some(GoesNext { name, at }) => write!(f, "; next to go is {name}, at {at}"),
            None => Ok(()),
        }
    }
}

/// What the loss of a store costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IfLost {
    /// Nothing: nobody wants it back.
    Nothing,
    /// Time on the network.
    FetchedAgain,
    /// It exists nowhere else.
    Lost,
}

/// The table: name, bound in bytes, bound of age, cost of loss.
fn table(config: &Config) -> [(&'static str, Option<u64>, Option<u64>, IfLost); 5] {
    [
        ("workbenches", config.max_workbench_bytes, Some(config.ttl_ceiling_secs), IfLost::Lost),
        ("archive", Some(config.max_archive_bytes), Some(config.archive_age_secs), IfLost::Lost),
        ("cache", Some(config.max_cache_bytes), Some(config.cache_age_secs), IfLost::FetchedAgain),
        ("history", Some(config.max_history_bytes), Some(config.history_age_secs), IfLost::Lost),
        ("trash", None, Some(config.cleanup_interval_secs), IfLost::Nothing),
    ]
}

/// Measures every store, until a deadline; the caller knows which workbench goes next.
pub(crate) fn measure(context: &Context, next_workbench: Option<GoesNext>, until: Instant) -> Vec<Store> {
    let Context { home, config, .. } = context;
    let store = |(name, max_bytes, max_age_secs, if_lost): (&'static str, _, _, _)| {
        let (bytes, bytes_complete) = if name == "history" {
            (history_bytes(home), true)
        } else if home.root().join(name).is_dir() {
            let measured = remove::measure(home.root(), name.as_ref(), &|| Instant::now() >= until);
            (measured.bytes, measured.complete)
        } else {
            (0, true)
        };
        let goes_next = match name {
            "workbenches" => next_workbench.clone(),
            "archive" => oldest_archive(context),
            "cache" => oldest_mirror(context),
            "history" => oldest_of_history(context),
            _ => None,
        };
        Store { name, bytes, bytes_complete, max_bytes, max_age_secs, if_lost, goes_next }
    };
    table(config).into_iter().map(store).collect()
}

fn history_files(home: &Home) -> impl Iterator<Item = DirEntry> {
    let is_history = |name: &str| name.starts_with("history.") && name.ends_with(".jsonl");
    files(home.root()).filter(move |file| file.file_name().to_str().is_some_and(is_history))
}

fn history_bytes(home: &Home) -> u64 {
    history_files(home).filter_map(|file| Some(file.metadata().ok()?.blocks() * 512)).sum()
}

fn oldest_of_history(context: &Context) -> Option<GoesNext> {
    let closed_at = |name: &str| name.strip_prefix("history.")?.strip_suffix(".jsonl")?.parse().ok();
    let oldest = history_files(&context.home).filter_map(|file| closed_at(file.file_name().to_str()?)).min()?;
    let at = UnixSeconds(oldest).plus_secs(context.config.history_age_secs);
    Some(GoesNext { name: format!("history.{oldest}.jsonl"), at })
}

fn oldest_archive(context: &Context) -> Option<GoesNext> {
    let (archives, _) = archive::all(&context.home).ok()?;
    let oldest = archives.first()?;
    Some(GoesNext { name: oldest.run.to_string(), at: oldest.made_at.plus_secs(context.config.archive_age_secs) })
}

fn oldest_mirror(context: &Context) -> Option<GoesNext> {
    let now = UnixSeconds::now();
    let (unused, oldest) = mirrors(&context.home).map(|path| (unused_secs(&path, now), path)).max()?;
    let name = oldest.file_name()?.to_string_lossy().into_owned();
    let at = UnixSeconds(now.0.saturating_sub(unused)).plus_secs(context.config.cache_age_secs);
    Some(GoesNext { name, at })
}

fn files(directory: &Path) -> impl Iterator<Item = DirEntry> + use<> {
    std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok)
}

fn mirrors(home: &Home) -> impl Iterator<Item = PathBuf> + use<> {
    let paths = files(&home.cache()).map(|file| file.path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "git"))
}

/// How often archives and mirrors are looked through.
const TIDY_INTERVAL_SECS: u64 = 24 * 60 * 60;
/// How old what a killed process left in the archive must be: a look or an archive may be under way.
const STALE_SECS: u64 = 24 * 60 * 60;

/// Removes archives and mirrors beyond their bounds, and what nothing needs any more. At most once a day, and never while
/// something is archived.
///
/// # Errors
/// Something cannot be read or removed; the rest is left for the next time.
pub(super) fn tidy(context: &Context) -> Result<(), FileError> {
    if !is_due(&context.home) {
        return Ok(());
    }
    let lock = FileLock::acquire(&context.home.archive_lock(), Mode::Exclusive, Duration::ZERO);
    lock.map_or(Ok(()), |_lock| tidy_under_lock(context))
}

fn stamp(home: &Home) -> PathBuf {
    home.locks().join("tidied")
}

/// Whether the last time is a day ago. One that a clock ahead of its time wrote counts for nothing.
fn is_due(home: &Home) -> bool {
    let written = stamp(home).symlink_metadata().and_then(|metadata| metadata.modified()).map(UnixSeconds::from);
    let now = UnixSeconds::now();
    written.map_or(true, |at| at > now.plus_secs(60) || at.age_secs_at(now) >= TIDY_INTERVAL_SECS)
}

/// The same for the caller who has the lock of archives.
///
/// # Errors
/// As [`tidy`].
pub(super) fn tidy_under_lock(context: &Context) -> Result<(), FileError> {
    let (home, now) = (&context.home, UnixSeconds::now());
    if !is_due(home) {
        return Ok(());
    }
    let stamp = stamp(home);
    atomic_file::write(&stamp, b"")?;
    tidy_archives(context, now)?;
    archive::remove_unused(home, |run| !Workbench::of(home, run).exists() && !Entry::of(home, run).exists())?;
    remove_stale_scratch(home, now);
    tidy_cache(context, now);
    Ok(())
}

/// Removes the archives that are too old, then the oldest beyond the bound.
fn tidy_archives(context: &Context, now: UnixSeconds) -> Result<(), FileError> {
    let Context { home, config, .. } = context;
    let (archives, damaged) = archive::all(home)?;
    for error in damaged {
        tracing::warn!(%error, "the archive stays until a person looks at it");
    }
    for (archive, reason) in surplus(&archives, config, &archive::bases(home), now) {
        archive::remove(home, &archive.run)?;
        let removed = history::append_archive_removed(home, &archive.run, archive.bytes, &reason, now);
        if let Err(error) = removed {
            tracing::warn!(run = %archive.run, %error, "its archive was removed, and the history has no line of that");
        }
        tracing::info!(run = %archive.run, reason, "its archive was removed");
    }
    Ok(())
}

/// Decides which archives go, of those sorted from oldest to newest, and why. A base goes with the last archive on it.
fn surplus<'a>(
    archives: &'a [Archive],
    config: &Config,
    bases: &Bases,
    now: UnixSeconds,
) -> Vec<(&'a Archive, String)> {
    let mut left = Taken::of(archives, bases);
    let mut going = Vec::new();
    for archive in archives {
        let age = archive.made_at.age_secs_at(now);
        let reason = if age > config.archive_age_secs {
            format!("it is older than archive_age_secs ({})", config.archive_age_secs)
        } else if left.bytes > config.max_archive_bytes && age > MIN_ARCHIVE_AGE_SECS {
            format!(
                "all archives take more than max_archive_bytes ({}), and the oldest go first",
                config.max_archive_bytes
            )
        } else {
            continue;
        };
        left.remove(archive, bases);
        going.push((archive, reason));
    }
    going
}

/// The size of each base that archives share.
type Bases = BTreeMap<ObjectId, u64>;

/// What archives take, with the bases that they stand on.
struct Taken {
    bytes: u64,
    users: BTreeMap<ObjectId, usize>,
}

impl Taken {
    fn of(archives: &[Archive], bases: &Bases) -> Self {
        let mut users = BTreeMap::new();
        for base in archives.iter().flat_map(Archive::bases) {
            *users.entry(base.clone()).or_insert(0) += 1;
        }
        let shared: u64 = users.keys().filter_map(|base| bases.get(base)).sum();
        Self { bytes: shared + archives.iter().map(|archive| archive.bytes).sum::<u64>(), users }
    }

    fn remove(&mut self, archive: &Archive, bases: &Bases) {
        self.bytes = self.bytes.saturating_sub(archive.bytes);
        for base in archive.bases() {
            let Some(users) = self.users.get_mut(base) else { continue };
            *users -= 1;
            if *users == 0 {
                self.bytes = self.bytes.saturating_sub(bases.get(base).copied().unwrap_or_default());
            }
        }
    }
}

/// Whether another archive fits, once those that may go have gone: those that are younger than 7 days stay.
pub(crate) fn has_room(context: &Context) -> bool {
    let Context { home, config, .. } = context;
    let Ok((archives, _)) = archive::all(home) else { return false };
    let bases = archive::bases(home);
    let mut left = Taken::of(&archives, &bases);
    for (archive, _) in surplus(&archives, config, &bases, UnixSeconds::now()) {
        left.remove(archive, &bases);
    }
    left.bytes <= config.max_archive_bytes
}

/// Removes the archives that may go, so that another fits.
///
/// # Errors
/// Something cannot be read or removed.
pub(super) fn make_room(context: &Context) -> Result<(), FileError> {
    tidy_archives(context, UnixSeconds::now())
}

fn remove_stale_scratch(home: &Home, now: UnixSeconds) {
    let hidden = files(&home.archive()).filter(|file| file.file_name().as_encoded_bytes().starts_with(b"."));
    for file in hidden.filter(|file| age_secs(&file.path(), now).is_some_and(|age| age > STALE_SECS)) {
        for failure in remove::remove(&home.archive(), &file.file_name(), &|| false).failures {
            tracing::warn!(path = %failure.path.display(), error = %failure.source, "cannot be removed");
        }
    }
}

/// Removes the mirrors that were not used for long, then those unused for longest beyond the bound. One that is in use stays.
fn tidy_cache(context: &Context, now: UnixSeconds) {
    let Context { home, config, .. } = context;
    let mut mirrors: Vec<(u64, u64, PathBuf)> = mirrors(home)
        .map(|path| {
            let bytes = remove::measure(&home.cache(), path.file_name().unwrap_or_default(), &|| false).bytes;
            (unused_secs(&path, now), bytes, path)
        })
        .collect();
    mirrors.sort_unstable_by(|one, other| other.cmp(one));
    let mut bytes: u64 = mirrors.iter().map(|(_, bytes, _)| bytes).sum();
    for (unused, size, path) in mirrors {
        if unused <= config.cache_age_secs && bytes <= config.max_cache_bytes {
            continue;
        }
        let Ok(_lock) = FileLock::acquire(&path.with_extension("lock"), Mode::Exclusive, Duration::ZERO) else {
            continue;
        };
        let aside = home.trash().join(format!("mirror.{}", home::random_suffix()));
        if std::fs::rename(&path, &aside).is_ok() {
            let _ = std::fs::remove_file(path.with_extension("lock"));
            bytes -= size;
            tracing::info!(mirror = %path.display(), unused_secs = unused, "removed");
        }
    }
}

/// A fetch writes `FETCH_HEAD` each time that a run needs the mirror.
fn unused_secs(mirror: &Path, now: UnixSeconds) -> u64 {
    let ages = [mirror.join("FETCH_HEAD"), mirror.to_owned()].map(|path| age_secs(&path, now));
    ages.into_iter().flatten().min().unwrap_or(0)
}

fn age_secs(path: &Path, now: UnixSeconds) -> Option<u64> {
    let written = path.symlink_metadata().and_then(|metadata| metadata.modified()).ok()?;
    Some(UnixSeconds::from(written).age_secs_at(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_archives_go_first_and_none_that_is_younger_than_a_week() {
        let day = 24 * 60 * 60;
        let now = UnixSeconds(1_000 * day);
        let archives: Vec<Archive> =
            [95, 50, 8, 3].iter().map(|days| Archive::example(UnixSeconds(now.0 - days * day), 4)).collect();
        let gone = |max_archive_bytes| {
            let config = Config { max_archive_bytes, ..Config::default() };
            let going = surplus(&archives, &config, &Bases::new(), now);
            going.iter().map(|(archive, _)| archive.made_at.age_secs_at(now) / day).collect::<Vec<_>>()
        };
        assert_eq!(gone(100), [95], "of age alone");
        assert_eq!(gone(9), [95, 50]);
        assert_eq!(gone(1), [95, 50, 8]);
    }
}
