//! Tests that need a namespace of their own, for mounts or for processes. What cannot run is said loudly;
//! `MOADIM_REQUIRE_MOUNTS=1` makes it fail.

use std::io::Write;
use std::path::Path;
use std::process::Command;

/// The variable that lets the second half of a test run, in a mount namespace.
const BODY: &str = "MOADIM_TEST_BODY";

/// Whether `unshare` with these arguments can run such a command here.
pub fn can_unshare(test: &str, arguments: &[&str], command: &[&str]) -> bool {
    let tried = Command::new("unshare").args(arguments).args(command).output();
    if tried.is_ok_and(|output| output.status.success()) {
        return true;
    }
    skip(test, &format!("unshare {} does not work here", arguments.join(" ")));
    false
}

/// Says that a test does not run, or fails where it has to.
pub fn skip(test: &str, why: &str) {
    assert!(std::env::var_os("MOADIM_REQUIRE_MOUNTS").is_none(), "{why}, and MOADIM_REQUIRE_MOUNTS is set");
    // On the real standard error, which the test harness does not catch.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// Runs an ignored test of this program (`module::name`) again, where it may mount.
pub fn with_mounts(test: &str) {
    let root = rustix::process::geteuid().is_root();
    let unshare: &[&str] = if root { &["--mount"] } else { &["--map-root-user", "--mount"] };
    if !can_unshare(test, unshare, &["mount", "-t", "tmpfs", "none", "/mnt"]) {
        return;
    }
    let mut command = Command::new("unshare");
    command.args(unshare).arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]).env(BODY, "1");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    for skipped in said.lines().filter(|line| line.starts_with("SKIPPED")) {
        let _ = writeln!(std::io::stderr(), "{skipped}");
    }
}

/// Whether this is the second half of a test, which [`with_mounts`] has started.
pub fn is_body() -> bool {
    std::env::var_os(BODY).is_some()
}

/// Mounts something at `place` that is gone again when dropped.
pub struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    /// Runs `mount` with these words and the place.
    #[track_caller]
    pub fn new(words: &[&str], place: &'a Path) -> Self {
        assert!(Command::new("mount").args(words).arg(place).status().unwrap().success(), "mount {words:?}");
        Self(place)
    }

    /// Mounts `place` over itself, read-only. It becomes that beside it: the system refuses to make a mount read-only through which
    /// a file is open for writing, as a server that works at `place` may do at any moment.
    #[track_caller]
    pub fn read_only(place: &'a Path) -> Self {
        let beside = tempfile::tempdir().unwrap();
        let closed = Mount::new(&["--bind", place.to_str().unwrap()], beside.path());
        assert!(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(beside.path()).status().unwrap().success());
        // A copy of a mount is as it is.
        let mount = Self::new(&["--bind", beside.path().to_str().unwrap()], place);
        drop(closed);
        mount
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}
