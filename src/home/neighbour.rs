//! The original moadim daemon, which shares our default home and would remove what it finds no session for.

use std::path::Path;

use rustix::process::{Pid, test_kill_process};

use super::atomic_file;

/// Returns the pid of a living daemon that sweeps `root`, if there is one.
///
/// It only ever uses the default home, and keeps its pid in `~/.config/moadim/moadim.pid`.
#[must_use]
pub fn sweeping(root: &Path) -> Option<i32> {
    let user = std::env::home_dir()?;
    let default = user.join(".moadim").canonicalize().ok()?;
    if default != root {
        return None;
    }
    living(&user.join(".config").join("moadim").join("moadim.pid"))
}

fn living(pid_file: &Path) -> Option<i32> {
    let pid: i32 = atomic_file::read_text(pid_file).ok()?.trim().parse().ok()?;
    let process = Pid::from_raw(pid)?;
    match test_kill_process(process) {
        Ok(()) | Err(rustix::io::Errno::PERM) => Some(pid),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_living_daemon_counts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("moadim.pid");
        assert_eq!(living(&file), None);
        std::fs::write(&file, "not a pid").unwrap();
        assert_eq!(living(&file), None);
        let me = i32::try_from(std::process::id()).unwrap();
        std::fs::write(&file, format!("{me}\n")).unwrap();
        assert_eq!(living(&file), Some(me));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        std::fs::write(&file, child.id().to_string()).unwrap();
        assert_eq!(living(&file), None);
    }
}
