//! The original moadim daemon, which shares our default home and would remove what it finds no session for.

use std::ffi::OsString;
use std::path::Path;

use sysinfo::{Pid, Process, ProcessRefreshKind, UpdateKind};

use super::atomic_file;
use crate::clock::UnixSeconds;
use crate::process_tree::look_at;

/// Returns the pid of a living daemon that sweeps `root`, if there is one.
///
/// It only ever uses the default home, and keeps its pid in `~/.config/moadim/moadim.pid`, which stays when it is killed.
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
    let written: UnixSeconds = pid_file.metadata().ok()?.modified().ok()?.into();
    let id = Pid::from_u32(u32::try_from(pid).ok()?);
    let system = look_at(Some(&[id]), ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always)).ok()?;
    let process = system.process(id)?;
    (is_daemon(process) && process.start_time() <= written.0 + CLOCK_MARGIN_SECS).then_some(pid)
}

/// How much later than its pid file a daemon may seem to have started: the system counts from the boot.
const CLOCK_MARGIN_SECS: u64 = 10;

/// The daemon's program. An interpreter may run it, so that it is the second word.
const DAEMON: &str = "moadim";

fn is_daemon(process: &Process) -> bool {
    let words = process.cmd().iter().take(2).map(OsString::as_os_str);
    words.chain([process.name()]).any(|word| Path::new(word).file_name().is_some_and(|name| name == DAEMON))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::process::Command;
    use std::time::{Duration, SystemTime};

    #[test]
    fn only_a_living_process_of_the_daemon_counts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("moadim.pid");
        let living_if = |text: &str| {
            std::fs::write(&file, text).unwrap();
            living(&file)
        };
        assert_eq!(living(&file), None);
        assert_eq!(living_if("not a pid"), None);
        assert_eq!(living_if(&std::process::id().to_string()), None, "an innocent process has the pid now");
        // Another name for the same program.
        std::os::unix::fs::symlink("/bin/sleep", dir.path().join("moadim")).unwrap();
        let mut daemon = Command::new(dir.path().join("moadim")).arg("60").spawn().unwrap();
        let pid = i32::try_from(daemon.id()).unwrap();
        let found = living_if(&format!("{pid}\n"));
        let older = SystemTime::now() - Duration::from_secs(1000);
        File::options().append(true).open(&file).unwrap().set_modified(older).unwrap();
        let of_an_older_file = living(&file);
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        assert_eq!((found, of_an_older_file), (Some(pid), None));
        assert_eq!(living_if(&pid.to_string()), None);
    }
}
