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
use walk::{Purpose, Walk};

pub use measure::Measured;
pub use unlink::{Failure, Removal};

/// Removes the entry `name` of the directory `trash` with everything in it.
///
/// `should_stop` is looked at before each entry; what is left then stays for the next call. An entry that is not there
/// counts as removed, so that any number of processes may remove the same one at the same time.
pub fn remove(trash: &Path, name: &OsStr, should_stop: &dyn Fn() -> bool) -> Removal {
    let entry = match entry_name(name) {
        Ok(entry) => entry,
        Err(error) => return Removal::failed(trash.join(name), error),
    };
    match walk(trash, entry, Removal::default(), should_stop) {
        Ok((removal, finished)) => Removal { finished, ..removal },
        Err(Errno::NOENT) => Removal { finished: true, ..Removal::default() },
        Err(error) => Removal::failed(trash.to_owned(), error),
    }
}

/// Measures the entry `name` of `dir` as [`remove`] would count it, changing nothing.
///
/// `should_stop` is looked at before each entry.
#[must_use]
pub fn measure(dir: &Path, name: &OsStr, should_stop: &dyn Fn() -> bool) -> Measured {
    let walked = entry_name(name).and_then(|name| walk(dir, name, Measuring::default(), should_stop));
    match walked {
        Ok((measuring, finished)) => measuring.measured(finished),
        Err(error) => Measured { complete: error == Errno::NOENT, ..Measured::default() },
    }
}

/// Walks with the best engine of this platform; returns the purpose, and whether the walk came to its end.
fn walk<P: Purpose>(
    base: &Path,
    entry: CString,
    purpose: P,
    should_stop: &dyn Fn() -> bool,
) -> Result<(P, bool), Errno> {
    // The caller trusts the way to the base; the base itself must be a directory, not a symlink to one.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(CWD, base, flags, Mode::empty())?;
    #[cfg(target_os = "linux")]
    if linux::has_openat2(&dir) {
        return Ok(Walk::<_, linux::Linux>::new(base, dir, entry, purpose, should_stop).run());
    }
    Ok(Walk::<_, portable::Portable>::new(base, dir, entry, purpose, should_stop).run())
}

fn entry_name(name: &OsStr) -> Result<CString, Errno> {
    let bytes = name.as_bytes();
    if matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/') {
        return Err(Errno::INVAL);
    }
    CString::new(bytes).map_err(|_| Errno::INVAL)
}
