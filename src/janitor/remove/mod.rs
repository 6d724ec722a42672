//! Removing a tree of files whole, and nothing else.
//!
//! A path can change its meaning between a look and an act; a descriptor cannot. So everything here works on names inside
//! directories held open: no symlink is followed, no mount (bind mounts included) is entered, and what is swapped during
//! the walk is either still inside the tree or not touched. The walk is iterative, with a bounded number of directories
//! open, so that no depth exhausts descriptors or stack; it carries on after each failure.
//!
//! `walk` knows no platform and no purpose; `linux` and `portable` open and list directories; `unlink` and `measure` are
//! the two purposes.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

mod descriptors;
#[cfg(target_os = "linux")]
mod linux;
mod measure;
mod portable;
#[cfg(test)]
mod tests;
mod unlink;
mod walk;

use measure::Measuring;
use walk::{Purpose, Start, Walk};

pub use measure::Measured;
pub use unlink::{Failure, Removal};

/// Removes the entry `name` of the directory `trash` with everything in it.
///
/// `should_stop` is looked at before each entry; what is left then stays for the next call. An entry that is not there
/// counts as removed, so that any number of processes may remove the same one at the same time.
pub fn remove(trash: &Path, name: &OsStr, should_stop: &dyn Fn() -> bool) -> Removal {
    match entry_name(name) {
        Ok(name) => removal(trash, Start::Entry(name), should_stop),
        Err(error) => Removal::failed(trash.join(name), error),
    }
}

/// Removes everything in the directory `trash`, but not the directory itself; else as [`remove`].
pub fn empty(trash: &Path, should_stop: &dyn Fn() -> bool) -> Removal {
    removal(trash, Start::Everything, should_stop)
}

/// Measures the entry `name` of `dir` as [`remove`] would count it, changing nothing.
///
/// `should_stop` is looked at before each entry.
#[must_use]
pub fn measure(dir: &Path, name: &OsStr, should_stop: &dyn Fn() -> bool) -> Measured {
    let walked = entry_name(name).and_then(|name| walk(dir, Start::Entry(name), Measuring::default(), should_stop));
    match walked {
        Ok((measuring, finished)) => measuring.measured(finished),
        Err(error) => Measured { complete: error == Errno::NOENT, ..Measured::default() },
    }
}

fn removal(trash: &Path, start: Start, should_stop: &dyn Fn() -> bool) -> Removal {
    match walk(trash, start, Removal::default(), should_stop) {
        Ok((removal, finished)) => Removal { finished, ..removal },
        Err(Errno::NOENT) => Removal { finished: true, ..Removal::default() },
        Err(error) => Removal::failed(trash.to_owned(), error),
    }
}

/// Walks on the best platform there is; returns the purpose, and whether the walk came to its end.
fn walk<P: Purpose>(base: &Path, start: Start, purpose: P, should_stop: &dyn Fn() -> bool) -> Result<(P, bool), Errno> {
    // The way to the base is the caller's to trust; the base itself must be a directory, not a symlink to one.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(CWD, base, flags, Mode::empty())?;
    #[cfg(target_os = "linux")]
    if linux::has_openat2(&dir) {
        return Ok(Walk::<_, linux::Linux>::new(base, dir, start, purpose, should_stop).run());
    }
    Ok(Walk::<_, portable::Portable>::new(base, dir, start, purpose, should_stop).run())
}

fn entry_name(name: &OsStr) -> Result<CString, Errno> {
    let bytes = name.as_bytes();
    if matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/') {
        return Err(Errno::INVAL);
    }
    CString::new(bytes).map_err(|_| Errno::INVAL)
}
