//! Real repositories in every state that an agent may leave them in, made by shell scripts.

mod looking;
mod lost;
mod restoring;
mod unreadable;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::restore::Restored;
use super::*;

/// More than any command here takes, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A remote `r.git` with one commit of the file `a`, and a workbench `w` with a clone of it, `w/repo`.
struct Scene {
    dir: tempfile::TempDir,
}

/// Runs before each script: identities, no configuration of this machine, functions that scripts share.
const PRELUDE: &str = r#"
set -eu
export HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null LC_ALL=C
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@a
export GIT_CONFIG_COUNT=4 GIT_CONFIG_KEY_0=init.defaultBranch GIT_CONFIG_VALUE_0=main \
    GIT_CONFIG_KEY_1=advice.detachedHead GIT_CONFIG_VALUE_1=false \
    GIT_CONFIG_KEY_2=protocol.file.allow GIT_CONFIG_VALUE_2=always \
    GIT_CONFIG_KEY_3=gc.auto GIT_CONFIG_VALUE_3=0
commit() { echo "$1" >"$1"; git add -- "$1"; git commit -q -m "$1"; }
"#;

impl Scene {
    /// Makes the remote and its clone, then runs a script in the clone.
    fn of(script: &str) -> Self {
        let scene = Self { dir: tempfile::tempdir().unwrap() };
        for part in ["w", "scratch"] {
            std::fs::create_dir(scene.dir.path().join(part)).unwrap();
        }
        scene.sh("git init -q --bare r.git; git clone -q r.git seed 2>/dev/null; cd seed; commit a; git push -q origin main; cd ..; rm -rf seed; git clone -q r.git w/repo");
        scene.sh_in("w/repo", script);
        scene
    }

    fn sh(&self, script: &str) {
        self.sh_in(".", script);
    }

    fn sh_in(&self, directory: &str, script: &str) {
        self.say(directory, script);
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("w")
    }

    fn scratch(&self) -> PathBuf {
        self.dir.path().join("scratch")
    }

    fn git(&self) -> Git {
        Git::find(std::env::var_os("PATH").unwrap(), Vec::new(), &self.scratch()).unwrap()
    }

    fn look(&self) -> Vec<Work> {
        self.look_with(&BTreeMap::new())
    }

    fn look_with(&self, cloned: &BTreeMap<PathBuf, Cloned>) -> Vec<Work> {
        self.look_until(cloned, Instant::now() + LIMIT)
    }

    fn look_until(&self, cloned: &BTreeMap<PathBuf, Cloned>, deadline: Instant) -> Vec<Work> {
        let root = self.root();
        let listed = find(&root, Closed::Report, deadline).unwrap().found;
        let place = Place { root: &root, doomed: &root, listed: &listed };
        let git = self.git();
        let look_at = |found: &Found| -> Result<Work, GitError> {
            let scratch = tempfile::tempdir_in(self.scratch()).unwrap();
            let shadow = Shadow::of(&git, &root, found, scratch.path(), deadline)?;
            Ok(look(&shadow, found, &place, cloned.get(&found.path), deadline)?.work)
        };
        let look = |found| look_at(found).unwrap_or_else(|error| Work::unreadable(&found.path, error));
        listed.iter().map(look).collect()
    }

    /// Archives the repository at a path, as if it were a clone of ours if `cloned` says so, and returns its record.
    fn pack(&self, path: &str) -> Result<Packed, GitError> {
        self.pack_within(path, u64::MAX)
    }

    fn pack_within(&self, path: &str, max_lfs_bytes: u64) -> Result<Packed, GitError> {
        let root = self.root();
        let deadline = Instant::now() + LIMIT;
        let listed = find(&root, Closed::Report, deadline).unwrap().found;
        let place = Place { root: &root, doomed: &root, listed: &listed };
        let found = listed.iter().find(|found| found.path == Path::new(path)).unwrap();
        let git = self.git();
        let shadow = Shadow::of(&git, &root, found, &self.scratch(), deadline)?;
        let seen = look(&shadow, found, &place, None, deadline)?;
        let bases = self.dir.path().join("bases");
        std::fs::create_dir_all(&bases).unwrap();
        let target = Target {
            directory: &self.dir.path().join("archive"),
            bases: &bases,
            scratch: &self.scratch(),
            max_lfs_bytes,
        };
        pack(&shadow, &seen, &target, deadline)
    }

    /// Restores what was archived to `restored`.
    fn restore(&self, packed: &Packed, fetch: bool) -> Restored {
        self.restore_to("restored", packed, fetch)
    }

    fn restore_to(&self, target: &str, packed: &Packed, fetch: bool) -> Restored {
        let bases = self.dir.path().join("bases");
        let base = packed.base_name.as_ref().map(|name| base_pack(&bases, name));
        let source = Source { directory: &self.dir.path().join("archive"), base };
        let target = self.dir.path().join(target);
        restore(&self.git(), packed, &source, &target, fetch, Instant::now() + LIMIT).unwrap()
    }

    fn say(&self, directory: &str, script: &str) -> String {
        let output = Command::new("bash")
            .args(["-c", &format!("{PRELUDE}\n{script}")])
            .current_dir(self.dir.path().join(directory))
            .process_group(0)
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The only repository of a scene.
    fn work(&self) -> Work {
        let mut work = self.look();
        assert_eq!(work.len(), 1, "{work:?}");
        work.remove(0)
    }
}

/// What is unsaved, in short: commits, changed files, untracked files, stashes.
fn counts(work: &Work) -> (u64, u64, u64, u64) {
    assert_eq!(work.unreadable, None);
    (work.unpushed_commits, work.changed_files, work.untracked_files, work.stashes)
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
