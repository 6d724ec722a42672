//! Who is at work below a directory: whose working directory is there, and who has a file open there. Shown on Linux alone.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{geteuid, getpid};

/// A process of our own user that is at work below a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Visitor {
    pub(crate) pid: i32,
    pub(crate) name: String,
    /// Where: its working directory, or a file that it has open.
    pub(crate) path: PathBuf,
    pub(crate) is_working_directory: bool,
}

/// Lists the processes at work below a directory, ours left out. What cannot be looked at is nobody's: this is a courtesy to people,
/// and not how a run is known to be alive.
pub(crate) fn visitors(root: &Path) -> Vec<Visitor> {
    let (us, user) = (getpid().as_raw_pid(), geteuid().as_raw());
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pid = |file: &fs::DirEntry| file.file_name().to_str()?.parse::<i32>().ok().filter(|pid| *pid != us);
    let is_ours = |file: &fs::DirEntry| file.metadata().is_ok_and(|metadata| metadata.uid() == user);
    let mut all = Vec::new();
    for process in processes.filter(is_ours) {
        let Some(pid) = pid(&process) else { continue };
        let directory = process.path();
        let files = fs::read_dir(directory.join("fd")).into_iter().flatten().filter_map(Result::ok);
        let open = files.map(|file| (file.path(), false));
        let links = [(directory.join("cwd"), true)].into_iter().chain(open);
        let paths = links.filter_map(|(link, is_cwd)| Some((fs::read_link(link).ok()?, is_cwd)));
        all.extend(paths.filter(|(path, _)| path.starts_with(root)).map(|(path, is_working_directory)| {
            let name = fs::read_to_string(directory.join("comm")).unwrap_or_default().trim_end().to_owned();
            Visitor { pid, name, path, is_working_directory }
        }));
    }
    all
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    #[test]
    fn a_process_below_a_directory_is_seen_until_it_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::write(root.join("file"), "").unwrap();
        let open = || Stdio::from(fs::File::open(root.join("file")).unwrap());
        let mut there = Command::new("sleep").arg("60").current_dir(&root).spawn().unwrap();
        let mut reader = Command::new("sleep").arg("60").stdin(open()).spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        let seen = |count| {
            loop {
                let mut seen = visitors(&root);
                seen.retain(|visitor| visitor.name == "sleep");
                if seen.len() == count {
                    break seen;
                }
                assert!(Instant::now() < until, "{seen:?}");
            }
        };
        let both = seen(2);
        let of = |pid: u32| both.iter().find(|visitor| visitor.pid == pid as i32).unwrap();
        assert!(of(there.id()).is_working_directory && !of(reader.id()).is_working_directory);
        assert_eq!(of(reader.id()).path, root.join("file"));
        for child in [&mut there, &mut reader] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        seen(0);
    }
}
