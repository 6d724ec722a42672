//! Real trees, real links, real mounts.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::mkdirat;

use super::walk::{Platform, Walk};
use super::*;

mod faults;
mod hostile;
#[cfg(target_os = "linux")]
mod mounts_and_swaps;
mod shapes;

type Engine = fn(&Path, &dyn Fn() -> bool) -> Removal;

/// Every way to walk that there is on this system; each must keep every promise that it can.
const ENGINES: &[(&str, Engine)] = &[
    #[cfg(target_os = "linux")]
    ("linux", remove_on::<linux::Linux>),
    ("portable", remove_on::<portable::Portable>),
];

fn remove_on<S: Platform>(entry: &Path, should_stop: &dyn Fn() -> bool) -> Removal {
    let (base, name) = (entry.parent().unwrap(), entry_name(entry.file_name().unwrap()).unwrap());
    let dir = fs::File::open(base).unwrap().into();
    let (removal, finished) = Walk::<Removal, S>::new(base, dir, name, Removal::default(), should_stop).run();
    Removal { finished, ..removal }
}

/// A place for trees of very many entries: in memory where there is one, since no disk is tested here.
fn roomy_dir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::tempdir_in(place).unwrap()
}

fn never() -> bool {
    false
}

fn measured(entry: &Path) -> Measured {
    measure(entry.parent().unwrap(), entry.file_name().unwrap(), &never)
}

fn assert_gone(entry: &Path, removal: &Removal) {
    assert!(removal.finished && removal.failure_count == 0, "{removal:?}");
    assert!(entry.symlink_metadata().is_err(), "{} is still there", entry.display());
}

/// Makes a chain of directories, deeper than any path can say, with a file in each `every`th; returns the last one.
fn make_chain(top: &Path, depth: usize, every: usize) -> OwnedFd {
    fs::create_dir(top).unwrap();
    let mut dir = fs::File::open(top).unwrap().into();
    for level in 1..depth {
        if level % every == 0 {
            openat(&dir, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
        }
        mkdirat(&dir, "d", Mode::RWXU).unwrap();
        dir = openat(&dir, "d", OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
    }
    dir
}

/// A directory with things that must survive, and a way to tell that they did.
struct Outside {
    root: PathBuf,
    before: Vec<(PathBuf, u32, Option<Vec<u8>>)>,
}

impl Outside {
    fn new(root: PathBuf) -> Self {
        fs::create_dir_all(root.join("sub/empty")).unwrap();
        fs::write(root.join("precious"), "precious").unwrap();
        fs::write(root.join("sub/precious"), "precious too").unwrap();
        fs::set_permissions(root.join("sub/precious"), PermissionsExt::from_mode(0o440)).unwrap();
        fs::set_permissions(root.join("sub/empty"), PermissionsExt::from_mode(0o510)).unwrap();
        let before = Self::look(&root);
        Self { root, before }
    }

    fn look(root: &Path) -> Vec<(PathBuf, u32, Option<Vec<u8>>)> {
        let mut seen = Vec::new();
        let mut todo = vec![root.to_owned()];
        while let Some(path) = todo.pop() {
            let metadata = path.symlink_metadata().unwrap();
            seen.push((path.clone(), metadata.mode(), metadata.is_file().then(|| fs::read(&path).unwrap())));
            if metadata.is_dir() {
                todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        seen.sort();
        seen
    }

    #[track_caller]
    fn assert_intact(&self) {
        assert_eq!(Self::look(&self.root), self.before);
    }
}

/// The variable that lets the second half of a test run, which needs another namespace, user or limit.
const BODY: &str = "MOADIM_TEST_BODY";

fn is_body() -> bool {
    std::env::var_os(BODY).is_some()
}

/// Runs an ignored test of this module in this program's copy, started by `wrapper`; returns its output if that failed.
fn run_body(wrapper: &[&str], test: &str) -> Result<(), String> {
    // A copy that any user may run, made by another process: a thread that forks while we hold it open would make it busy.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = dir.path().join("tests");
    assert!(Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status().unwrap().success());
    let output = Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg(&program)
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .current_dir("/")
        .env(BODY, "1")
        .output()
        .map_err(|error| format!("{wrapper:?}: {error}"))?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() && text.contains("1 passed") { Ok(()) } else { Err(text) }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says on the real standard error, which the test harness does not catch, that a test could not run.
fn skip(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}
