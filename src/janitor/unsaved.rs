//! Whether a workbench may go: nothing in it may be lost (rule 10), and nobody may be at work in it.
//!
//! Looking at repositories takes from milliseconds to seconds, so it happens without the sweep lock, and only for workbenches that
//! the plan removes. Archiving takes up to minutes: a process of its own does it, one at a time, at low priority.

use std::cell::LazyCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::plan::{Archived, Decision, Verdict};
use super::reason::Why;
use super::stores;
use crate::archive::{self, Archive, Unsaved, Wanted};
use crate::clock::UnixSeconds;
use crate::environment;
use crate::git::{Closed, Work};
use crate::home::atomic_file::{self, FileError};
use crate::home::config::UnsavedWork;
use crate::home::{Home, make_directory};
use crate::process_tree::{Visitor, visitors};
use crate::routine::bounds::Bounds;
use crate::routine::slug::Slug;
use crate::run::context::Context;
use crate::run::entry::Workbench;
use crate::run::id::RunId;

/// Who archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Archiving {
    /// This process, now.
    Here,
    /// A process of its own, which is started if there is something to archive.
    Elsewhere,
    /// Nobody: a dry run says what would be archived.
    Planned,
}

/// How long finding out whether a workbench has anything to look at may take.
const FIND_TIMEOUT: Duration = Duration::from_secs(5);

/// Why nothing is archived just now, whatever it is.
pub(crate) const NO_ROOM: &str = "all archives together take max_archive_bytes, and none is older than 7 days";

/// How long a workbench that could not be archived is left alone, unless it changes.
const RETRY_SECS: u64 = 24 * 60 * 60;
/// The same where what was in the way may be gone soon, as with a full disk.
const RETRY_SOON_SECS: u64 = 10 * 60;

/// How long after a file was seen open it has to be so still: an indexer reads each file for a moment only.
const SECOND_LOOK_PAUSE: Duration = Duration::from_secs(10);

/// The workbenches that have to be looked at before they go.
pub(super) struct Candidates {
    pub(super) verdicts: Vec<Verdict>,
    /// Who has a file open in one of them, and when that was seen.
    readers: Vec<(RunId, Visitor)>,
    seen: Instant,
}

/// Takes from `verdicts` the workbenches that have to be looked at, and keeps those in which somebody is at work. A shortage of disk
/// counts for more.
pub(super) fn take_candidates(home: &Home, bounds: &HashMap<Slug, Bounds>, verdicts: &mut Vec<Verdict>) -> Candidates {
    let seen = Instant::now();
    let visits = keep_in_use(home, verdicts);
    let is_candidate = |verdict: &mut Verdict| {
        let is_read = is_courteous(verdict) && visits.iter().any(|(run, _)| *run == verdict.run);
        verdict.decision == Decision::Remove
            && (is_read
                || bounds.get(verdict.run.routine()).is_some_and(|bounds| may_hold_work(home, &verdict.run, bounds)))
    };
    let candidates: Vec<Verdict> = verdicts.extract_if(.., is_candidate).collect();
    let is_one = |run: &RunId| candidates.iter().any(|verdict| verdict.run == *run && is_courteous(verdict));
    let readers = visits.iter().filter(|(run, _)| is_one(run)).cloned().collect();
    Candidates { verdicts: candidates, readers, seen }
}

/// Whether it is removed for its age; a shortage of disk outweighs a visitor.
fn is_courteous(verdict: &Verdict) -> bool {
    verdict.decision == Decision::Remove && !matches!(verdict.reason.why, Why::ShortOfDisk(_))
}

/// Keeps the workbenches that are somebody's working directory, and returns who uses any.
pub(super) fn keep_in_use(home: &Home, verdicts: &mut [Verdict]) -> Vec<(RunId, Visitor)> {
    let visits = if verdicts.iter().any(is_courteous) { visits(home) } else { Vec::new() };
    for verdict in verdicts.iter_mut().filter(|verdict| is_courteous(verdict)) {
        let mut there = visits.iter().filter(|(run, _)| *run == verdict.run).map(|(_, visitor)| visitor);
        if let Some(visitor) = there.find(|visitor| visitor.is_working_directory) {
            verdict.decide(Decision::Keep(None), Why::InUse(named(visitor)));
        }
    }
    visits
}

fn visits(home: &Home) -> Vec<(RunId, Visitor)> {
    let root = home.workbenches();
    let run_of = |visitor: &Visitor| visitor.path.strip_prefix(&root).ok()?.iter().next()?.to_str()?.parse().ok();
    visitors(&root).into_iter().filter_map(|visitor| Some((run_of(&visitor)?, visitor))).collect()
}

fn named(visitor: &Visitor) -> String {
    format!("{} ({})", visitor.name, visitor.pid)
}

/// Keeps the workbenches in which a file is still open after a while.
pub(super) fn keep_read(home: &Home, candidates: &mut Candidates) {
    if candidates.readers.is_empty() {
        return;
    }
    std::thread::sleep(SECOND_LOOK_PAUSE.saturating_sub(candidates.seen.elapsed()));
    let still = visits(home);
    for (run, reader) in &candidates.readers {
        let is_there = still.iter().any(|(of, visitor)| of == run && visitor.pid == reader.pid);
        for verdict in candidates.verdicts.iter_mut().filter(|verdict| is_there && verdict.run == *run) {
            verdict.decide(Decision::Keep(None), Why::InUse(named(reader)));
        }
    }
}

fn may_hold_work(home: &Home, run: &RunId, bounds: &Bounds) -> bool {
    bounds.unsaved_work != UnsavedWork::Discard
        && archive::may_hold_work(home, &Wanted { run, files: &bounds.archive_files }, Instant::now() + FIND_TIMEOUT)
}

/// Decides about workbenches that had to be looked at. Returns whether a process has to archive.
pub(super) fn decide(
    context: &Context,
    bounds: &HashMap<Slug, Bounds>,
    candidates: &mut [Verdict],
    archiving: Archiving,
    until: Instant,
) -> bool {
    let mut is_needed = false;
    let has_room = LazyCell::new(|| stores::has_room(context));
    for verdict in candidates.iter_mut().filter(|verdict| verdict.decision == Decision::Remove) {
        let Some(bounds) = bounds.get(verdict.run.routine()) else { continue };
        if Instant::now() >= until {
            is_needed |= archiving == Archiving::Elsewhere;
            verdict.decide(Decision::Keep(None), Why::Archiving("it is not examined yet".to_owned()));
            continue;
        }
        match judge(context, &verdict.run, bounds, archiving, &|| *has_room) {
            Fate::Goes(archived) => verdict.archived = archived,
            Fate::Stays(why) => {
                is_needed |= matches!(why, Why::Archiving(_));
                verdict.decide(Decision::Keep(None), why);
            }
        }
    }
    is_needed
}

enum Fate {
    Goes(Option<Archived>),
    Stays(Why),
}

fn judge(context: &Context, run: &RunId, bounds: &Bounds, archiving: Archiving, has_room: &dyn Fn() -> bool) -> Fate {
    let home = &context.home;
    let wanted = Wanted { run, files: &bounds.archive_files };
    // A dry run changes nothing.
    let closed = if archiving == Archiving::Planned { Closed::Report } else { Closed::Open };
    let unsaved = match archive::examine(home, &wanted, closed) {
        Ok(unsaved) => unsaved,
        Err(error) => return Fate::Stays(Why::NotArchived(error.to_string())),
    };
    if !unsaved.is_something() {
        return Fate::Goes(None);
    }
    match bounds.unsaved_work {
        UnsavedWork::Discard => return Fate::Goes(None),
        UnsavedWork::Keep => return Fate::Stays(Why::UnsavedWork(in_words(&unsaved))),
        UnsavedWork::Archive => {}
    }
    match archive::read(home, run) {
        Ok(Some(archive)) if archive.fingerprint == unsaved.fingerprint && archive::is_whole(home, &archive) => {
            return Fate::Goes(Some(brief(home, &archive)));
        }
        Ok(_) => {}
        Err(error) => return Fate::Stays(Why::NotArchived(error.to_string())),
    }
    if archive::is_recovered(home, run, &unsaved.fingerprint) {
        return Fate::Goes(None);
    }
    if let Some(reason) = unreadable(&unsaved.work).or_else(|| Problem::of(home, run, &unsaved.fingerprint)) {
        remember(home, run, &unsaved.fingerprint, &reason, RETRY_SECS);
        return Fate::Stays(Why::NotArchived(reason));
    }
    if !has_room() {
        return Fate::Stays(Why::NotArchived(NO_ROOM.to_owned()));
    }
    match archiving {
        Archiving::Planned => Fate::Goes(Some(planned(home, run, &unsaved))),
        Archiving::Elsewhere => Fate::Stays(Why::Archiving(in_words(&unsaved))),
        Archiving::Here => match archive::make(home, &wanted, closed, context.config.max_run_archive_bytes) {
            Ok(archive) => {
                Problem::forget(home, run);
                // Somebody may have gone on meanwhile.
                match archive::examine(home, &wanted, closed) {
                    Ok(again) if again.fingerprint == archive.fingerprint => Fate::Goes(Some(brief(home, &archive))),
                    _ => Fate::Stays(Why::Archiving("it changed while it was archived".to_owned())),
                }
            }
            Err(error) => {
                let retry_secs = if error.may_pass() { RETRY_SOON_SECS } else { RETRY_SECS };
                remember(home, run, &unsaved.fingerprint, &error.to_string(), retry_secs);
                Fate::Stays(Why::NotArchived(error.to_string()))
            }
        },
    }
}

fn unreadable(work: &[Work]) -> Option<String> {
    let one = work.iter().find(|work| work.unreadable.is_some())?;
    Some(format!("its repository {} cannot be examined: {}", one.path, one.unreadable.as_deref().unwrap_or_default()))
}

fn brief(home: &Home, archive: &Archive) -> Archived {
    Archived {
        path: archive::directory(home, &archive.run).display().to_string(),
        bytes: Some(archive.bytes),
        commits: archive.unpushed_commits(),
        files: archive.file_count(),
    }
}

fn planned(home: &Home, run: &RunId, unsaved: &Unsaved) -> Archived {
    let files = unsaved.work.iter().map(|work| work.changed_files + work.untracked_files).sum::<u64>();
    Archived {
        path: archive::directory(home, run).display().to_string(),
        bytes: None,
        commits: unsaved.work.iter().map(|work| work.unpushed_commits).sum(),
        files: files + unsaved.files.len() as u64,
    }
}

/// Says what a workbench holds, as in "2 commits that were not pushed, 1 stash in repo; 1 file to archive".
fn in_words(unsaved: &Unsaved) -> String {
    let files = match unsaved.files.len() {
        0 => String::new(),
        1 => "1 file to archive".to_owned(),
        count => format!("{count} files to archive"),
    };
    let parts = unsaved.work.iter().map(Work::to_string).chain([files]);
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

/// Why a workbench could not be archived. It is not tried again at once, and `health` names it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Problem {
    pub(crate) run: RunId,
    pub(crate) reason: String,
    /// Of what was tried.
    fingerprint: String,
    /// When the same is tried again.
    retry_at: UnixSeconds,
}

impl Problem {
    fn directory(home: &Home) -> std::path::PathBuf {
        home.archive().join("problems")
    }

    fn file(home: &Home, run: &RunId) -> std::path::PathBuf {
        Self::directory(home).join(format!("{run}.json"))
    }

    /// Returns why the same could not be archived a while ago.
    fn of(home: &Home, run: &RunId, fingerprint: &str) -> Option<String> {
        let problem: Self = atomic_file::read_json(&Self::file(home, run)).ok()?;
        // A clock that was set back must not put it off for ever.
        let wait_secs = problem.retry_at.0.saturating_sub(UnixSeconds::now().0);
        (problem.fingerprint == fingerprint && (1..=RETRY_SECS).contains(&wait_secs)).then_some(problem.reason)
    }

    fn forget(home: &Home, run: &RunId) {
        let _ = std::fs::remove_file(Self::file(home, run));
    }

    /// Returns the workbenches that stay because they cannot be archived, oldest first.
    pub(crate) fn all(home: &Home) -> Vec<Self> {
        let files = std::fs::read_dir(Self::directory(home)).into_iter().flatten().filter_map(Result::ok);
        let mut problems: Vec<Self> = files.filter_map(|file| atomic_file::read_json(&file.path()).ok()).collect();
        problems.retain(|problem| {
            let is_there = Workbench::of(home, &problem.run).exists();
            if !is_there {
                Self::forget(home, &problem.run);
            }
            is_there
        });
        problems.sort_by(|one, other| one.run.cmp(&other.run));
        problems
    }
}

fn remember(home: &Home, run: &RunId, fingerprint: &str, reason: &str, retry_secs: u64) {
    let path = Problem::file(home, run);
    if Problem::of(home, run, fingerprint).is_some() {
        return;
    }
    let problem = Problem {
        run: run.clone(),
        reason: reason.to_owned(),
        fingerprint: fingerprint.to_owned(),
        retry_at: UnixSeconds(UnixSeconds::now().0 + retry_secs),
    };
    let written = make_directory(&Problem::directory(home))
        .map_err(|source| FileError::io("make", &path, source))
        .and_then(|()| atomic_file::write_json(&path, &problem));
    if let Err(error) = written {
        tracing::warn!(%run, %error, "cannot note why it was not archived");
    }
}

/// Starts the process that archives, as nobody's child. One that is at work already does ours too.
pub(super) fn start_archiving(context: &Context) {
    let inherited = environment::inherited(&environment::of_this_process(), &[]);
    let mut launcher = environment::detached(context.program.path(), &inherited);
    let spawned = launcher.arg("archive").arg(context.home.root()).current_dir(context.home.root()).status();
    if let Err(error) = spawned {
        tracing::warn!(%error, "cannot start archiving; the next sweep tries again");
    }
}
