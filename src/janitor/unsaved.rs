//! Whether a workbench may go: nothing in it may be lost (rule 10), and nobody may be at work in it.
//!
//! Looking at repositories takes from milliseconds to seconds, so it happens without the sweep lock, and only for workbenches that
//! the plan removes. Archiving takes up to minutes: a process of its own does it, one at a time, at low priority.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::plan::{Archived, Decision, Verdict};
use super::reason::Why;
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
use crate::run::id::RunId;
use crate::run::workbench::Workbench;

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

/// How long finding out which workbenches have anything to look at may take, under the sweep lock. The rest is looked at later.
const FIND_TIMEOUT: Duration = Duration::from_secs(2);

/// How old an archive may be by which a workbench goes: it is the only copy from then on, and archives go by their age.
const FRESH_SECS: u64 = 24 * 60 * 60;

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
    let find_until = seen + FIND_TIMEOUT;
    let visits = keep_in_use(home, verdicts);
    let is_candidate = |verdict: &mut Verdict| {
        let is_read = is_courteous(verdict) && visits.iter().any(|(run, _)| *run == verdict.run);
        verdict.decision == Decision::Remove
            && (is_read
                || bounds
                    .get(verdict.run.routine())
                    .is_some_and(|bounds| may_hold_work(home, &verdict.run, bounds, find_until)))
    };
    let candidates: Vec<Verdict> = verdicts.extract_if(.., is_candidate).collect();
    let is_one = |run: &RunId| candidates.iter().any(|verdict| verdict.run == *run && is_courteous(verdict));
    let readers = visits.iter().filter(|(run, _)| is_one(run)).cloned().collect();
    Candidates { verdicts: candidates, readers, seen }
}

/// Whether it is removed for its age; a shortage of disk outweighs a visitor.
fn is_courteous(verdict: &Verdict) -> bool {
    verdict.decision == Decision::Remove && !matches!(verdict.reason.why, Why::ShortOfDisk(..))
}

/// Keeps the workbenches that are somebody's working directory, unless the disk is short, and returns who uses any.
pub(super) fn keep_in_use(home: &Home, verdicts: &mut [Verdict]) -> Vec<(RunId, Visitor)> {
    let any = verdicts.iter().any(|verdict| verdict.decision == Decision::Remove);
    let visits = if any { visits(home) } else { Vec::new() };
    for verdict in verdicts.iter_mut().filter(|verdict| verdict.decision == Decision::Remove) {
        let mut there = visits.iter().filter(|(run, _)| *run == verdict.run).map(|(_, visitor)| visitor);
        let Some(visitor) = there.find(|visitor| visitor.is_working_directory) else { continue };
        if let Why::ShortOfDisk(_, visited_by) = &mut verdict.reason.why {
            *visited_by = Some(named(visitor));
        } else {
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

fn may_hold_work(home: &Home, run: &RunId, bounds: &Bounds, until: Instant) -> bool {
    bounds.unsaved_work != UnsavedWork::Discard
        && archive::may_hold_work(home, &Wanted { run, files: &bounds.archive_files }, until)
}

/// Decides about a workbench that has to be looked at. Returns whether a process has to archive.
pub(super) fn decide(
    context: &Context,
    bounds: &HashMap<Slug, Bounds>,
    verdict: &mut Verdict,
    archiving: Archiving,
    until: Instant,
    has_room: &dyn Fn() -> bool,
) -> bool {
    let Some(bounds) = bounds.get(verdict.run.routine()).filter(|_| verdict.decision == Decision::Remove) else {
        return false;
    };
    let fate = if Instant::now() >= until {
        Fate::Stays(Why::Archiving("it is not examined yet".to_owned()))
    } else {
        judge(context, &verdict.run, bounds, archiving, has_room)
    };
    match fate {
        Fate::Goes(archived) => {
            verdict.archived = archived;
            false
        }
        Fate::Stays(why) => {
            let is_needed = matches!(why, Why::Archiving(_));
            verdict.decide(Decision::Keep(None), why);
            is_needed
        }
    }
}

enum Fate {
    Goes(Option<Archived>),
    Stays(Why),
}

fn judge(context: &Context, run: &RunId, bounds: &Bounds, archiving: Archiving, has_room: &dyn Fn() -> bool) -> Fate {
    let home = &context.home;
    let wanted = Wanted { run, files: &bounds.archive_files };
    let examined = match archiving {
        Archiving::Planned => archive::estimate(home, &wanted).map(|(unsaved, bytes)| (unsaved, Some(bytes))),
        Archiving::Elsewhere => archive::examine(home, &wanted, Closed::Open).map(|unsaved| (unsaved, None)),
        Archiving::Here => archive::examine_patiently(home, &wanted).map(|unsaved| (unsaved, None)),
    };
    let (unsaved, bytes) = match examined {
        Ok(examined) => examined,
        Err(error) => {
            if archiving != Archiving::Planned {
                remember(home, run, "", &error.to_string(), RETRY_SOON_SECS);
            }
            return Fate::Stays(Why::NotArchived(error.to_string()));
        }
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
        Ok(Some(archive))
            if archive.fingerprint == unsaved.fingerprint
                && archive.made_at.age_secs_at(UnixSeconds::now()) < FRESH_SECS
                && archive::is_whole(home, &archive) =>
        {
            return Fate::Goes(Some(brief(home, &archive)));
        }
        Ok(_) => {}
        Err(error) => return Fate::Stays(Why::NotArchived(error.to_string())),
    }
    if archive::is_recovered(home, run, &unsaved.fingerprint) {
        return Fate::Goes(None);
    }
    let known = Problem::of(home, run, &unsaved.fingerprint);
    // Who archives takes more time to look.
    let unreadable = if unsaved.was_cut_short { None } else { unreadable(&unsaved.work) };
    if let Some(reason) = unreadable.or(known) {
        if archiving != Archiving::Planned {
            remember(home, run, &unsaved.fingerprint, &reason, RETRY_SECS);
        }
        return Fate::Stays(Why::NotArchived(reason));
    }
    if !has_room() {
        return Fate::Stays(Why::NotArchived(NO_ROOM.to_owned()));
    }
    match archiving {
        Archiving::Planned => Fate::Goes(Some(planned(home, run, &unsaved, bytes))),
        Archiving::Elsewhere => Fate::Stays(Why::Archiving(in_words(&unsaved))),
        Archiving::Here => match archive::make(home, &wanted, Closed::Open, context.config.max_run_archive_bytes)
            .and_then(|staged| Ok(staged.put(home)?))
        {
            Ok(archive) => {
                Problem::forget(home, run);
                // Somebody may have gone on meanwhile.
                match archive::examine_patiently(home, &wanted) {
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

fn planned(home: &Home, run: &RunId, unsaved: &Unsaved, bytes: Option<u64>) -> Archived {
    let files = unsaved.work.iter().map(|work| work.changed_files + work.untracked_files).sum::<u64>();
    Archived {
        path: archive::directory(home, run).display().to_string(),
        bytes,
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
        (problem.fingerprint == fingerprint && problem.holds(UnixSeconds::now())).then_some(problem.reason)
    }

    /// Whether it is too early to try again. A clock that was set back must not put it off for ever.
    pub(super) fn holds(&self, now: UnixSeconds) -> bool {
        (1..=RETRY_SECS).contains(&self.retry_at.0.saturating_sub(now.0))
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
        problems.sort_unstable_by(|one, other| one.run.cmp(&other.run));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::config::Config;
    use crate::run::context::Program;

    fn fate(context: &Context, run: &RunId, archiving: Archiving) -> Result<Option<Archived>, Why> {
        let bounds = Bounds::of(&context.home, &context.config, run.routine());
        match judge(context, run, &bounds, archiving, &|| true) {
            Fate::Goes(archived) => Ok(archived),
            Fate::Stays(why) => Err(why),
        }
    }

    #[test]
    fn a_workbench_goes_only_by_an_archive_that_is_as_it_is_and_of_today() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let context = Context::of_supervisor(home.clone(), Config::default(), Program::current().unwrap());
        let run: RunId = "a-1".parse().unwrap();
        let workbench = Workbench::of(&home, &run);
        workbench.make().unwrap();
        std::fs::write(workbench.directory().join("report.md"), "done").unwrap();
        let is_archiving = |fate| matches!(fate, Err(Why::Archiving(_)));
        assert!(is_archiving(fate(&context, &run, Archiving::Elsewhere)));
        let planned = fate(&context, &run, Archiving::Planned).unwrap().unwrap();
        assert_eq!((planned.files, planned.bytes), (1, Some(4)));
        fate(&context, &run, Archiving::Here).unwrap();
        assert!(fate(&context, &run, Archiving::Elsewhere).unwrap().is_some());
        let record = archive::directory(&home, &run).join("archive.json");
        let mut archive = atomic_file::read_json::<serde_json::Value>(&record).unwrap();
        archive["made_at"] = serde_json::json!("2020-01-01T00:00:00Z");
        atomic_file::write_json(&record, &archive).unwrap();
        assert!(is_archiving(fate(&context, &run, Archiving::Elsewhere)), "a tidy-up may remove it in a moment");
        fate(&context, &run, Archiving::Here).unwrap();
        assert!(fate(&context, &run, Archiving::Elsewhere).is_ok());
        std::fs::write(workbench.directory().join("report.md"), "more").unwrap();
        assert!(is_archiving(fate(&context, &run, Archiving::Elsewhere)));
    }

    #[test]
    fn what_could_not_be_archived_is_tried_again_in_time_whatever_the_clock_does() {
        let problem = |retry_at| Problem {
            run: "a-1".parse().unwrap(),
            reason: String::new(),
            fingerprint: String::new(),
            retry_at: UnixSeconds(retry_at),
        };
        let now = UnixSeconds(1_000_000);
        let holds = |retry_at| problem(retry_at).holds(now);
        assert!(holds(now.0 + 1) && holds(now.0 + RETRY_SECS));
        assert!(!holds(now.0) && !holds(now.0 + RETRY_SECS + 1));
    }
}
