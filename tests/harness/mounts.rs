//! Tests that mount, each in a mount namespace of its own, which needs root. What cannot run is said loudly;
//! `MOADIM_REQUIRE_MOUNTS=1` makes it fail.

use std::io::Write;
use std::process::Command;

/// The variable that lets the second half of a test run, in a mount namespace.
const BODY: &str = "MOADIM_TEST_BODY";

/// Runs an ignored test of this program again, where it may mount.
pub fn with_mounts(test: &str) {
    let root = rustix::process::geteuid().is_root();
    let unshare: &[&str] = if root { &["--mount"] } else { &["--map-root-user", "--mount"] };
    let tried = Command::new("unshare").args(unshare).args(["mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        let why = "mounting in an own namespace is not allowed here";
        assert!(std::env::var_os("MOADIM_REQUIRE_MOUNTS").is_none(), "{why}, and MOADIM_REQUIRE_MOUNTS is set");
        // On the real standard error, which the test harness does not catch.
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
        return;
    }
    let mut command = Command::new("unshare");
    command.args(unshare).arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]).env(BODY, "1");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Says whether this is a test in its namespace.
pub fn is_body() -> bool {
    std::env::var_os(BODY).is_some()
}
