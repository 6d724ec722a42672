//! One process as `/proc/PID` shows it (proc(5)).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, Dir, Mode, OFlags, fstat, openat, readlinkat};
use rustix::io::{Errno, read, retry_on_intr};
use rustix::process::geteuid;

use super::stat::Stat;
use crate::process_tree::listed::{Listed, Mark};
use crate::process_tree::{Process, ProcessId, Whereabouts};

/// An open `/proc/PID`. All that is read through it is of one process, even if its pid goes to another one meanwhile.
pub(super) struct ProcDir {
    pid: i32,
    directory: OwnedFd,
}

/// What became of reading an environment.
enum Environment {
    Shown(Vec<u8>),
    /// The process hides it: it is not dumpable, or another user's.
    Hidden,
    /// There is none, or none yet, or the process has ended.
    Empty,
}

impl ProcDir {
    /// Opens the directory of the process, or the thread, that has this pid now; `None` if there is none.
    pub(super) fn open(pid: i32) -> io::Result<Option<Self>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(CWD, format!("/proc/{pid}"), flags, Mode::empty()) {
            Ok(directory) => Ok(Some(Self { pid, directory })),
            Err(error) if is_gone(error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns what `stat` shows of a living process; `None` for a dead one, and for one that we may not look at.
    pub(super) fn stat(&self) -> io::Result<Option<Stat>> {
        match self.read("stat") {
            Ok(text) => Ok(text.and_then(|text| Stat::parse(&text)).filter(|stat| !stat.is_dead)),
            // Another user's, where `/proc` is mounted with `hidepid`.
            Err(Errno::ACCESS | Errno::PERM) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns whether this is a process. `/proc` lists processes only, but answers for the other threads too.
    pub(super) fn is_a_process(&self) -> io::Result<bool> {
        let status = self.read("status")?.unwrap_or_default();
        let leader = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Tgid:"));
        let leader = leader.and_then(|pid| std::str::from_utf8(pid).ok()?.trim().parse().ok());
        Ok(leader == Some(self.pid))
    }

    /// Looks at a living process; `None` for a dead one, and for the kernel's own.
    pub(super) fn look(&self) -> io::Result<Option<Listed>> {
        let Some(stat) = self.living_program()? else { return Ok(None) };
        self.look_on(stat)
    }

    /// Looks at a living process as [`ProcDir::look`] does, and returns the pids of its children too, dead ones included. A
    /// child that ends in the middle of that can hide the next one.
    pub(super) fn look_with_children(&self) -> io::Result<Option<(Listed, Vec<i32>)>> {
        let Some(stat) = self.living_program()? else { return Ok(None) };
        let threads = if stat.threads == 1 { vec![self.pid] } else { self.threads()? };
        let Some(listed) = self.look_on(stat)? else { return Ok(None) };
        let mut children = Vec::new();
        for thread in threads {
            let text = self.read(&format!("task/{thread}/children"))?.unwrap_or_default();
            let pids = std::str::from_utf8(&text).unwrap_or_default().split_ascii_whitespace();
            children.extend(pids.filter_map(|pid| pid.parse::<i32>().ok()));
        }
        Ok(Some((listed, children)))
    }

    fn look_on(&self, mut stat: Stat) -> io::Result<Option<Listed>> {
        let mut environment = self.environment(&stat)?;
        let mut is_settled = true;
        if matches!(environment, Environment::Empty) {
            // Its end, the end of its first thread, or an exec may have come in between.
            let Some(now) = self.living_program()? else { return Ok(None) };
            is_settled = !now.is_in_exec;
            environment = self.environment(&now)?;
            stat = now;
        }
        let mark = match environment {
            Environment::Shown(text) => Mark::in_environment(text.split(|&byte| byte == 0).map(OsStr::from_bytes)),
            Environment::Hidden => Mark::Hidden,
            Environment::Empty if is_settled => Mark::Missing,
            Environment::Empty => Mark::Unsettled,
        };
        let ours = fstat(&self.directory).is_ok_and(|directory| directory.st_uid == geteuid().as_raw());
        let process = Process { id: ProcessId { pid: self.pid, start: stat.start }, name: stat.name };
        Ok(Some(Listed { process, parent: Some(stat.parent), mark, ours }))
    }

    /// Returns where a living process works, and of which run it says that it is.
    pub(super) fn whereabouts(&self) -> io::Result<Option<Whereabouts>> {
        let Some(stat) = self.living_program()? else { return Ok(None) };
        let mut directory = None;
        for path in self.paths(&stat, "cwd")? {
            match readlinkat(&self.directory, path, Vec::new()) {
                Ok(link) => directory = Some(PathBuf::from(OsString::from_vec(link.into_bytes()))),
                Err(error) if is_want(error) => return Err(error.into()),
                Err(_) => {}
            }
        }
        let run = match self.environment(&stat)? {
            Environment::Shown(text) => Whereabouts::run_in(text.split(|&byte| byte == 0).map(OsStr::from_bytes)),
            Environment::Hidden | Environment::Empty => None,
        };
        Ok(Some(Whereabouts { directory, run }))
    }

    fn living_program(&self) -> io::Result<Option<Stat>> {
        Ok(self.stat()?.filter(|stat| !stat.is_the_kernels))
    }

    fn environment(&self, stat: &Stat) -> io::Result<Environment> {
        for path in self.paths(stat, "environ")? {
            match self.read(&path) {
                Ok(Some(text)) if !text.is_empty() => return Ok(Environment::Shown(text)),
                Ok(_) => {}
                Err(error) if is_want(error) => return Err(error.into()),
                Err(_) => return Ok(Environment::Hidden),
            }
        }
        Ok(Environment::Empty)
    }

    /// Returns where a file about memory or files is: with a living thread, once the first one has ended.
    fn paths(&self, stat: &Stat, name: &str) -> io::Result<Vec<String>> {
        if !stat.has_lost_its_first_thread {
            return Ok(vec![name.to_owned()]);
        }
        let living = self.threads()?.into_iter().filter(|&thread| thread != self.pid);
        Ok(living.map(|thread| format!("task/{thread}/{name}")).collect())
    }

    fn threads(&self) -> io::Result<Vec<i32>> {
        match openat(&self.directory, "task", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(directory) => numbers_in(directory),
            Err(error) if is_gone(error) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a whole file; `None` if the process, or the thread, has ended.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Errno> {
        /// More than most environments have. Less than was asked for is the end of such a file.
        const PIECE: usize = 8192;
        let whole = || {
            let file = openat(&self.directory, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            let mut text = Vec::new();
            loop {
                text.reserve(PIECE);
                let room = text.capacity() - text.len();
                if retry_on_intr(|| read(&file, spare_capacity(&mut text)))? < room {
                    return Ok(text);
                }
            }
        };
        match whole() {
            Ok(text) => Ok(Some(text)),
            Err(error) if is_gone(error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Returns the pids of all processes, dead ones included.
pub(super) fn all_pids() -> io::Result<Vec<i32>> {
    numbers_in(openat(CWD, "/proc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn numbers_in(directory: OwnedFd) -> io::Result<Vec<i32>> {
    let mut numbers = Vec::new();
    for entry in Dir::new(directory)? {
        match entry {
            Ok(entry) => numbers.extend(entry.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok())),
            // The process has ended meanwhile.
            Err(error) if is_gone(error) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(numbers)
}

fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::SRCH)
}

/// Returns whether it is us who lack something, so that nothing is known of the process.
fn is_want(error: Errno) -> bool {
    matches!(error, Errno::MFILE | Errno::NFILE | Errno::NOMEM)
}
