//! Another user than the one who runs the tests: root becomes nobody.

use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use rustix::process::geteuid;

/// The user `nobody`, as most systems have it.
const NOBODY: u32 = 65_534;

/// Whether we can become another user. With `MOADIM_REQUIRE_MOUNTS=1`, which says that we are root, a test that needs
/// this fails where we cannot.
pub fn root_may_become_another_user() -> bool {
    let there = Command::new("setpriv").arg("--version").output().is_ok_and(|output| output.status.success());
    let can = geteuid().is_root() && there;
    let required = std::env::var("MOADIM_REQUIRE_MOUNTS").is_ok_and(|value| value == "1");
    assert!(can || !required, "MOADIM_REQUIRE_MOUNTS=1, and we are not root, or there is no setpriv");
    if !can {
        eprintln!("SKIPPED: it takes root and setpriv to become another user");
    }
    can
}

/// Makes of a command one that nobody runs.
pub fn run_as_nobody(command: &Command) -> Command {
    let mut changed = Command::new("setpriv");
    changed.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()]);
    changed.arg(command.get_program()).args(command.get_args()).env_clear();
    changed.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(directory) = command.get_current_dir() {
        changed.current_dir(directory);
    }
    changed
}

/// Gives a directory to nobody, with all that is in it.
pub fn give_to_nobody(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            give_to_nobody(&entry.unwrap().path());
        }
    }
}
