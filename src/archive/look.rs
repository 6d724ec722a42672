//! Looking at a workbench: what it holds that is nowhere else.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::files::{self, Unarchived};
use super::scratch::Scratch;
use super::store;
use crate::git::{self, Closed, Found, Git, GitError, Place, Seen, Shadow, Work};
use crate::home::atomic_file::FileError;
use crate::home::{Home, make_directory, stable_hash};
use crate::process_tree::COOKIE_VARIABLE;
use crate::run::id::RunId;
use crate::run::workbench::Workbench;

/// How long looking at one repository may take, and at all of a workbench.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
const LOOK_ALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long looking at one repository may take where nobody waits for it.
const PATIENT_LOOK_TIMEOUT: Duration = Duration::from_secs(2 * 60);
/// The same for listing a workbench.
const PATIENT_LISTING_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// What would be lost could not be archived, so the workbench stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error("{0}")]
    Git(#[from] GitError),
    #[error("its repository {} cannot be archived: {source}", git::shown(path))]
    Repository { path: PathBuf, source: GitError },
    #[error("its work takes {bytes} bytes, more than max_run_archive_bytes ({max})")]
    TooLarge { bytes: u64, max: u64 },
    #[error("archiving it takes up to {needed} bytes of disk, and {free} are free")]
    NoSpace { needed: u64, free: u64 },
    #[error(transparent)]
    File(#[from] FileError),
}

impl ArchiveError {
    /// Whether it may succeed soon although the workbench stays as it is.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::NoSpace { .. } | Self::File(_) => true,
            Self::Git(error) | Self::Repository { source: error, .. } => error.may_pass(),
            Self::TooLarge { .. } => false,
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted<'a> {
    pub(crate) run: &'a RunId,
    /// Globs of files.
    pub(crate) files: &'a [String],
}

/// What a workbench holds that is nowhere else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unsaved {
    /// Every repository, saved ones included.
    pub(crate) work: Vec<Work>,
    /// The files that the routine asks to archive.
    pub(crate) files: Vec<PathBuf>,
    /// Names everything that was seen.
    pub(crate) fingerprint: String,
    /// Whether there was only too little time for a repository's files: for so many, or on so slow a disk.
    pub(crate) was_cut_short: bool,
}

impl Unsaved {
    /// Whether an archive has to be made before the workbench goes.
    pub(crate) fn is_something(&self) -> bool {
        !self.files.is_empty() || self.work.iter().any(Work::is_unsaved)
    }
}

/// Whether a workbench has anything that has to be looked at before it goes. What cannot be listed has to be.
pub(crate) fn may_hold_work(home: &Home, wanted: &Wanted<'_>, deadline: Instant) -> bool {
    let workbench = Workbench::of(home, wanted.run);
    let root = workbench.directory();
    let has_repository = git::find(root, Closed::Report, deadline)
        .map(|listing| !listing.found.is_empty() || !listing.skipped.is_empty());
    has_repository.unwrap_or(true) || files::find(root, wanted.files, deadline).map_or(true, |files| !files.is_empty())
}

/// Counts the files of a workbench that nobody asks to archive and that are in no repository; `None` if that takes too long.
pub(crate) fn unarchived(home: &Home, wanted: &Wanted<'_>, deadline: Instant) -> Option<Unarchived> {
    let workbench = Workbench::of(home, wanted.run);
    let root = workbench.directory();
    let listing = git::find(root, Closed::Report, deadline).ok()?;
    let repositories = listing.found.into_iter().map(|found| found.path).collect::<Vec<_>>();
    let archived = files::find(root, wanted.files, deadline).ok()?;
    files::count_others(root, &repositories, &archived, deadline).ok()
}

/// Looks at a workbench.
///
/// # Errors
/// There is no git although there is a repository, or the workbench cannot be read.
pub(crate) fn examine(home: &Home, wanted: &Wanted<'_>, closed: Closed) -> Result<Unsaved, ArchiveError> {
    visit(home, wanted, closed, &Haste::look(), Scratch::anywhere, &mut |_, _, _, _| Ok(()))
}

/// Looks at a workbench as long as archiving it takes.
///
/// # Errors
/// As [`examine`].
pub(crate) fn examine_patiently(home: &Home, wanted: &Wanted<'_>) -> Result<Unsaved, ArchiveError> {
    visit(home, wanted, Closed::Open, &Haste::none(), Scratch::anywhere, &mut |_, _, _, _| Ok(()))
}

/// Looks at a workbench without changing anything, and tells about how many bytes an archive of it takes.
///
/// # Errors
/// As [`examine`].
pub(crate) fn estimate(home: &Home, wanted: &Wanted<'_>) -> Result<(Unsaved, u64), ArchiveError> {
    let mut bytes = 0;
    let haste = Haste::look();
    let unsaved = visit(home, wanted, Closed::Report, &haste, Scratch::anywhere, &mut |_, _, shadow, seen| {
        bytes += git::size(shadow, seen, haste.deadline())?.work_bytes;
        Ok(())
    })?;
    bytes += file_bytes(Workbench::of(home, wanted.run).directory(), &unsaved.files);
    Ok((unsaved, bytes))
}

/// Looks at the repositories of a workbench once its run is over, and notes which take more than an archive may.
///
/// # Errors
/// As [`examine`].
pub(crate) fn examine_at_end(home: &Home, run: &RunId, max_bytes: u64) -> Result<Vec<Work>, ArchiveError> {
    let haste = Haste::look();
    let mut too_large = BTreeMap::new();
    let mut bytes = 0;
    let unsaved = visit(
        home,
        &Wanted { run, files: &[] },
        Closed::Open,
        &haste,
        Scratch::anywhere,
        &mut |_, _, shadow, seen| {
            // Nice to know early; whatever fails here fails again when it is archived.
            let size = git::size(shadow, seen, haste.deadline());
            bytes += size.map_or(0, |size| size.work_bytes);
            if bytes > max_bytes {
                too_large.insert(seen.work.path.clone(), ArchiveError::TooLarge { bytes, max: max_bytes });
            }
            Ok(())
        },
    )?;
    let mut work = unsaved.work;
    for work in &mut work {
        work.not_archivable = too_large.get(&work.path).map(ToString::to_string);
    }
    Ok(work)
}

pub(super) fn file_bytes(root: &Path, files: &[PathBuf]) -> u64 {
    files.iter().filter_map(|path| Some(root.join(path).symlink_metadata().ok()?.len())).sum()
}

/// What is done with each repository that has work.
pub(super) type Each<'a> = dyn FnMut(&Path, &Found, &Shadow<'_>, &Seen) -> Result<(), ArchiveError> + 'a;

/// How long looking may take: somebody waits for a look, nobody for an archive.
pub(super) struct Haste {
    each: Duration,
    until: Option<Instant>,
}

impl Haste {
    pub(super) fn look() -> Self {
        Self { each: LOOK_TIMEOUT, until: Some(Instant::now() + LOOK_ALL_TIMEOUT) }
    }

    pub(super) fn none() -> Self {
        Self { each: PATIENT_LOOK_TIMEOUT, until: None }
    }

    /// Until when the next repository may take.
    fn deadline(&self) -> Instant {
        let soon = Instant::now() + self.each;
        self.until.map_or(soon, |until| until.min(soon))
    }
}

pub(super) fn visit(
    home: &Home,
    wanted: &Wanted<'_>,
    closed: Closed,
    haste: &Haste,
    make_scratch: fn(&Home) -> Result<Scratch, FileError>,
    each: &mut Each<'_>,
) -> Result<Unsaved, ArchiveError> {
    let workbench = Workbench::of(home, wanted.run);
    let root = workbench.directory();
    let listing_until = haste.until.unwrap_or_else(|| Instant::now() + PATIENT_LISTING_TIMEOUT);
    let listing = git::find(root, closed, listing_until)?;
    let files = files::find(root, wanted.files, listing_until)?;
    let mut unsaved = Unsaved { files, ..Unsaved::default() };
    let mut print = String::new();
    if !listing.found.is_empty() {
        let scratch = make_scratch(home)?;
        let git = Git::find(search_path(), own_cookie(), scratch.path())?;
        let cloned = store::clones_of(home, wanted.run)?;
        // Mirrors and the trash go, too.
        let place = Place { root, doomed: home.root(), listed: &listing.found };
        for (number, found) in listing.found.iter().enumerate() {
            let directory = scratch.path().join(number.to_string());
            make_directory(&directory).map_err(|source| FileError::io("make", &directory, source))?;
            let deadline = haste.deadline();
            let looked = Shadow::of(&git, root, found, &directory, deadline).and_then(|shadow| {
                let seen = git::look(&shadow, found, &place, cloned.get(&found.path), deadline)?;
                Ok((shadow, seen))
            });
            unsaved.work.push(match looked {
                Ok((shadow, seen)) => {
                    print.push_str(&seen.fingerprint);
                    if seen.work.is_unsaved() {
                        each(&directory, found, &shadow, &seen)?;
                    }
                    seen.work
                }
                Err(error) => {
                    unsaved.was_cut_short |= matches!(&error, GitError::TimedOut { command }
                        if command == "status" || haste.until.is_some_and(|until| Instant::now() >= until));
                    print.push_str(&files::print_of(&root.join(&found.path), listing_until));
                    Work::unreadable(&found.path, error)
                }
            });
            let _ = std::fs::remove_dir_all(&directory);
        }
    }
    unsaved.work.extend(listing.skipped.iter().map(|(path, reason)| Work::unreadable(path, reason)));
    for path in &unsaved.files {
        let _ = write!(print, "{path:?}{:?}", git::stamp(&root.join(path)));
    }
    for work in &unsaved.work {
        // Counts of lines and complaints depend on the moment.
        let same = Work {
            insertions: 0,
            deletions: 0,
            unreadable: work.unreadable.as_ref().map(|_| String::new()),
            ..work.clone()
        };
        let _ = write!(print, "{same:?}");
    }
    for (path, _) in &listing.skipped {
        print.push_str(&files::print_of(&root.join(path), listing_until));
    }
    unsaved.fingerprint = format!("{:016x}", stable_hash(print.as_bytes()));
    Ok(unsaved)
}

/// What git starts belongs to the run that it is started for, if it is started by its supervisor.
fn own_cookie() -> Vec<(String, String)> {
    std::env::var(COOKIE_VARIABLE).map(|cookie| (COOKIE_VARIABLE.to_owned(), cookie)).into_iter().collect()
}

/// Where git is looked for: this process's own PATH, and where a desktop application's does not lead.
pub(super) fn search_path() -> OsString {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&own).chain(USUAL_PLACES.map(PathBuf::from));
    std::env::join_paths(places).unwrap_or(own)
}

const USUAL_PLACES: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/bin", "/opt/homebrew/bin"];
