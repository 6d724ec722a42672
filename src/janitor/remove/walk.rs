//! The walk: depth first, on descriptors, iterative, at any depth with a bounded number of directories open.
//!
//! A directory is read once, in portions: what is no directory is dealt with at once, subdirectories are noted by name.
//! An ancestor whose directory was closed is opened again by walking the names down from the nearest one still open, under
//! the same rules as the first time. `..` is never taken: a directory that was moved away would lead out of the tree,
//! whereas names beneath an open directory cannot. What such a name means by now may have changed, but it lies in the
//! tree that is to go, and that is all that safety needs.

use std::ffi::{CStr, CString};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, Stat, fchmod, fstat};
use rustix::io::{Errno, retry_on_intr};

use super::descriptors::OpenDepths;

/// How many subdirectories are noted before they are visited, and before more of their directory is read.
const MAX_NOTED: usize = 1024;

/// How often a directory is read again because it is not empty when it should be: someone added to it, or the file
/// system skipped entries while others were removed.
const MAX_PASSES: u8 = 16;

/// A reported path ends here, its last name excepted.
const MAX_PATH_BYTES: usize = 4096;

/// What the walk is for. `ENOENT` from any of these is no failure: someone else was faster.
pub(super) trait Purpose {
    /// Whether the tree is to go; if so, its directories may be made passable.
    const REMOVES: bool;

    /// Deals with an entry that is not a directory.
    fn file(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno>;

    /// Deals with a directory that occupied `bytes` itself, after all that is in it.
    fn directory(&mut self, parent: BorrowedFd<'_>, name: &CStr, bytes: u64) -> Result<(), Errno>;

    /// Takes note of a failure; the walk goes on.
    fn failed(&mut self, path: impl FnOnce() -> PathBuf, error: Errno);
}

/// How directories are opened and listed.
pub(super) trait Platform: Default {
    /// Opens the directory `name` of `parent` for reading. `ENOTDIR` or `ELOOP` for anything else, symlinks included;
    /// `EXDEV` for a mount.
    fn open(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno>;

    /// As [`Self::open`], for a directory whose mode forbids it: changes the mode to 0700 first.
    fn open_by_force(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno>;

    /// Hands out the next portion of the entries until `each` breaks; returns whether there may be more.
    fn read(
        &mut self,
        dir: BorrowedFd<'_>,
        each: impl FnMut(&CStr, FileType) -> ControlFlow<()>,
    ) -> Result<bool, Errno>;
}

/// Returns the bytes of the blocks that something occupies; `st_blocks` counts 512 bytes each (POSIX leaves the unit
/// open, Linux and macOS do not).
#[allow(clippy::useless_conversion, reason = "the field's type differs between platforms")]
pub(super) fn allocated_bytes(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512)
}

/// A directory on the way down to where the walk is.
struct Frame {
    name: CString,
    /// None while its descriptor is needed elsewhere; it has been read to its end then.
    dir: Option<OwnedFd>,
    bytes: u64,
    noted: Vec<CString>,
    unread: bool,
    may_grant: bool,
    has_leftover: bool,
    passes: u8,
}

impl Frame {
    fn new(name: CString, dir: OwnedFd, may_grant: bool) -> Self {
        let bytes = fstat(&dir).map_or(0, |stat| allocated_bytes(&stat));
        Self { name, dir: Some(dir), bytes, noted: Vec::new(), unread: true, may_grant, has_leftover: false, passes: 1 }
    }

    /// Acts in the directory; if its mode forbids that, makes it passable, once, and tries again. The mode changes on the
    /// descriptor, so that it cannot be another directory's, or a file's.
    fn act<T>(&mut self, mut act: impl FnMut(BorrowedFd<'_>) -> Result<T, Errno>) -> Result<T, Errno> {
        let dir = self.dir.as_ref().ok_or(Errno::BADF)?;
        act_in(dir, &mut self.may_grant, &mut act)
    }
}

fn act_in<T>(
    dir: &OwnedFd,
    may_grant: &mut bool,
    mut act: impl FnMut(BorrowedFd<'_>) -> Result<T, Errno>,
) -> Result<T, Errno> {
    match retry_on_intr(|| act(dir.as_fd())) {
        Err(Errno::ACCESS) if std::mem::take(may_grant) && fchmod(dir, Mode::RWXU).is_ok() => {
            retry_on_intr(|| act(dir.as_fd()))
        }
        outcome => outcome,
    }
}

/// A walk under way. The deepest frame's directory is open whenever a step begins.
pub(super) struct Walk<'a, P, S> {
    base: &'a Path,
    frames: Vec<Frame>,
    open: OpenDepths,
    platform: S,
    purpose: P,
    should_stop: &'a dyn Fn() -> bool,
    stopped: bool,
}

impl<'a, P: Purpose, S: Platform> Walk<'a, P, S> {
    /// Prepares a walk of the entry `name` of `dir`, which `base` named. The base itself is neither changed nor visited.
    pub(super) fn new(
        base: &'a Path,
        dir: OwnedFd,
        name: CString,
        purpose: P,
        should_stop: &'a dyn Fn() -> bool,
    ) -> Self {
        let mut frame = Frame::new(CString::default(), dir, false);
        frame.noted.push(name);
        frame.unread = false;
        let mut open = OpenDepths::default();
        open.push(0);
        Self { base, frames: vec![frame], open, platform: S::default(), purpose, should_stop, stopped: false }
    }

    /// Walks; returns the purpose, and whether the end was reached.
    pub(super) fn run(mut self) -> (P, bool) {
        while self.step() {}
        (self.purpose, !self.stopped)
    }

    fn step(&mut self) -> bool {
        self.stopped = self.stopped || (self.should_stop)();
        let depth = self.frames.len() - 1;
        let deepest = &mut self.frames[depth];
        if self.stopped {
            return false;
        } else if deepest.unread && deepest.noted.len() < MAX_NOTED {
            self.read(depth);
        } else if let Some(name) = deepest.noted.pop() {
            self.descend(name);
        } else if depth > 0 {
            self.ascend();
        } else {
            return false;
        }
        true
    }

    /// Reads a portion of a directory.
    fn read(&mut self, depth: usize) {
        let Frame { dir: Some(dir), noted, may_grant, .. } = &mut self.frames[depth] else { return };
        let mut failures = Vec::new();
        let outcome = self.platform.read(dir.as_fd(), |name, kind| {
            if matches!(name.to_bytes(), b"." | b"..") {
                return ControlFlow::Continue(());
            }
            if (self.should_stop)() {
                self.stopped = true;
                return ControlFlow::Break(());
            }
            if matches!(kind, FileType::Directory | FileType::Unknown) {
                noted.push(name.to_owned());
                return ControlFlow::Continue(());
            }
            match act_in(dir, may_grant, |dir| self.purpose.file(dir, name)) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR) => noted.push(name.to_owned()),
                Err(error) => failures.push((name.to_owned(), error)),
            }
            ControlFlow::Continue(())
        });
        match outcome {
            Ok(more) => self.frames[depth].unread = more,
            Err(Errno::INTR) => {}
            // A directory that someone else removed has no entries to read.
            Err(Errno::NOENT) => self.frames[depth].unread = false,
            Err(Errno::ACCESS) if std::mem::take(may_grant) && fchmod(dir, Mode::RWXU).is_ok() => {}
            Err(Errno::MFILE | Errno::NFILE) if self.spare() => {}
            Err(error) => {
                self.frames[depth].unread = false;
                self.fail(depth, None, error);
            }
        }
        for (name, error) in failures {
            self.fail(depth, Some(&name), error);
        }
    }

    fn descend(&mut self, name: CString) {
        match self.open_child(self.frames.len() - 1, &name) {
            Ok(dir) => self.enter(Frame::new(name, dir, P::REMOVES)),
            Err(error) => self.refused(&name, error),
        }
    }

    fn enter(&mut self, frame: Frame) {
        self.open.push(self.frames.len());
        self.frames.push(frame);
        self.close_surplus();
    }

    fn ascend(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        self.open.forget_from(self.frames.len());
        let parent = self.frames.len() - 1;
        self.frames[parent].has_leftover |= frame.has_leftover;
        if !self.reopen(parent) || frame.has_leftover {
            return;
        }
        match self.frames[parent].act(|dir| self.purpose.directory(dir, &frame.name, frame.bytes)) {
            Ok(()) => {}
            // Opened again by its name, which may mean another directory by now.
            Err(Errno::NOTEMPTY | Errno::EXIST) if frame.passes < MAX_PASSES => {
                match self.open_child(parent, &frame.name) {
                    Ok(dir) => self.enter(Frame { dir: Some(dir), unread: true, passes: frame.passes + 1, ..frame }),
                    Err(error) => self.refused(&frame.name, error),
                }
            }
            Err(error) => self.refused(&frame.name, error),
        }
    }

    /// Opens all directories down to `depth` that were closed. Returns false, and goes on above it, if one cannot be reached
    /// any more.
    fn reopen(&mut self, depth: usize) -> bool {
        for missing in self.open.deepest() + 1..=depth {
            let name = self.frames[missing].name.clone();
            match self.open_child(missing - 1, &name) {
                Ok(dir) => self.frames[missing].dir = Some(dir),
                Err(error) => {
                    self.frames.truncate(missing);
                    self.refused(&name, error);
                    return false;
                }
            }
            self.open.push(missing);
            self.close_surplus();
        }
        true
    }

    fn open_child(&mut self, depth: usize, name: &CStr) -> Result<OwnedFd, Errno> {
        loop {
            let parent = &mut self.frames[depth];
            let mut outcome = parent.act(|dir| S::open(dir, name));
            if P::REMOVES && matches!(outcome, Err(Errno::ACCESS)) {
                outcome = parent.act(|dir| S::open_by_force(dir, name));
            }
            match outcome {
                Err(Errno::MFILE | Errno::NFILE) if self.spare() => {}
                _ => return outcome,
            }
        }
    }

    /// Closes a directory because the process is out of descriptors; returns whether there was one to spare.
    fn spare(&mut self) -> bool {
        let spared = self.open.give_up();
        spared.inspect(|&depth| self.close(depth)).is_some()
    }

    fn close_surplus(&mut self) {
        while let Some(depth) = self.open.give_up_surplus() {
            self.close(depth);
        }
    }

    /// Closes a directory after reading it to its end, since its place would be lost.
    fn close(&mut self, depth: usize) {
        while self.frames[depth].unread && !self.stopped {
            self.read(depth);
        }
        self.frames[depth].dir = None;
    }

    /// Deals with a name in the deepest directory that could not be opened as a directory, or not be removed as one.
    fn refused(&mut self, name: &CStr, error: Errno) {
        let depth = self.frames.len() - 1;
        let deepest = &mut self.frames[depth];
        let outcome = match error {
            Errno::NOTDIR | Errno::LOOP => deepest.act(|dir| self.purpose.file(dir, name)),
            // An empty directory can be removed without being opened.
            Errno::ACCESS | Errno::PERM if P::REMOVES => {
                deepest.act(|dir| self.purpose.directory(dir, name, 0)).map_err(|_| error)
            }
            _ => Err(error),
        };
        match outcome {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => self.fail(depth, Some(name), error),
        }
    }

    fn fail(&mut self, depth: usize, name: Option<&CStr>, error: Errno) {
        self.frames[depth].has_leftover = true;
        let (base, frames) = (self.base, &self.frames[1..=depth]);
        self.purpose.failed(|| path(base, frames, name), error);
    }
}

fn path(base: &Path, frames: &[Frame], name: Option<&CStr>) -> PathBuf {
    let mut path = base.to_owned();
    for frame in frames {
        if path.as_os_str().len() > MAX_PATH_BYTES {
            path.push("...");
            break;
        }
        path.push(std::ffi::OsStr::from_bytes(frame.name.to_bytes()));
    }
    path.extend(name.map(|name| std::ffi::OsStr::from_bytes(name.to_bytes())));
    path
}
