//! Clones of repositories, by way of a mirror of each that all runs share.
//!
//! A mirror is brought up to date under its lock by each run that needs it. One that git complains about is made again, once, because
//! a git that was killed leaves locks and half a pack behind; what cannot be fetched even so fails the launch, because a stale
//! clone would be worse. A run's clone has no file in common with the mirror, so no agent can change what others get.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Pid;

use super::setup_step::{NotPrepared, quoted};
use super::supervision::Supervisor;
use crate::agent::{Found, Source, find_command};
use crate::archive;
use crate::environment::Variables;
use crate::git::Cloned;
use crate::home::atomic_file::{self, FileError};
use crate::home::lock::{FileLock, Mode};
use crate::home::{make_directory, make_parent, random_suffix, stable_hash};
use crate::process_tree::{COOKIE_VARIABLE, Cookie};
use crate::routine::repository::Repository;
use crate::routine::repository::{directory_of, masked, name_of};
use crate::run::entry::GIT_LOG;
use crate::run::log;

/// Settings that hold whatever a person's own say: nothing runs but git itself, nothing stays behind in the background.
const SETTINGS: [&str; 6] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "submodule.recurse=false",
    "gc.autoDetach=false",
    "maintenance.autoDetach=false",
    "advice.detachedHead=false",
];

/// How often a mirror that another run holds is asked for.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// The program git, and what it is given.
pub(super) struct Git {
    program: PathBuf,
    environment: Vec<(String, String)>,
}

impl Git {
    /// Finds git on the PATH that runs inherit. Its environment is theirs, without what agent and routine set, and without
    /// any variable of git's own; it asks nobody anything.
    pub(super) fn find(inherited: &Variables, cookie: &Cookie) -> Result<Self, String> {
        let mut environment: Vec<(String, String)> =
            inherited.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        environment.retain(|(name, _)| !name.starts_with("GIT_"));
        let path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| OsString::from(value));
        let on_path = path.clone().map(|path| (Source::Own, path)).into_iter().collect();
        let Found { program, .. } = find_command("git", on_path).map_err(|_| {
            let path = path.unwrap_or_default();
            format!("its repositories cannot be cloned: git was not found (PATH is {}); install it", path.display())
        })?;
        let fixed = [("GIT_ALLOW_PROTOCOL", "https:ssh:git:file"), ("GIT_TERMINAL_PROMPT", "0")];
        environment.extend(fixed.map(|(name, value)| (name.to_owned(), value.to_owned())));
        environment.push((COOKIE_VARIABLE.to_owned(), cookie.to_string()));
        Ok(Self { program, environment })
    }

    fn spawn(&self, arguments: &[&OsStr], log: &Path) -> Result<Pid, FileError> {
        let output = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(log);
        let output: File = output.map_err(|source| FileError::io("write", log, source))?;
        let error_output = output.try_clone().map_err(|source| FileError::io("write", log, source))?;
        let child = Command::new(&self.program)
            .args(SETTINGS.iter().flat_map(|setting| ["-c", setting]))
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            // No repository's settings but the named one's count.
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(error_output)
            .spawn()
            .map_err(|source| FileError::io("execute", &self.program, source))?;
        Ok(Pid::from_child(&child))
    }
}

/// A repository could not be cloned.
enum CloneError {
    /// The run has to end.
    NotPrepared(NotPrepared),
    /// Git complained, in these words.
    Git(String),
}

impl From<NotPrepared> for CloneError {
    fn from(not: NotPrepared) -> Self {
        Self::NotPrepared(not)
    }
}

impl From<CloneError> for NotPrepared {
    /// What git complains about with a new mirror is the run's failure.
    fn from(error: CloneError) -> Self {
        match error {
            CloneError::NotPrepared(not) => not,
            CloneError::Git(complaint) => {
                Self::failed(format_args!("{complaint}; see that you can clone it by hand, then try again"))
            }
        }
    }
}

impl Supervisor {
    /// Puts a clone of a repository into the workbench.
    pub(super) fn clone_repository(&mut self, git: &Git, repository: &Repository) -> Result<(), NotPrepared> {
        let url = repository.url.as_str();
        let cache = self.context.home.cache();
        make_directory(&cache).map_err(|source| NotPrepared::failed(FileError::io("make", &cache, source)))?;
        let name = name_of(url).unwrap_or_else(|| "repository".to_owned());
        // Locks may not reach from node to node, so that each has mirrors of its own.
        let node = self.taken.job.as_ref().and_then(|job| job.node.as_ref()).map(|node| format!("-{node}"));
        let hash = stable_hash(url.as_bytes());
        let mirror = cache.join(format!("{name}-{hash:016x}{}.git", node.unwrap_or_default()));
        let _lock = self.lock_mirror(&mirror.with_extension("lock"))?;
        let complaint = if mirror.symlink_metadata().is_ok() {
            match self.fetch(git, repository, &mirror).and_then(|()| self.clone_of_mirror(git, repository, &mirror)) {
                Ok(()) => return Ok(()),
                Err(CloneError::NotPrepared(not)) => return Err(not),
                Err(CloneError::Git(complaint)) => Some(complaint),
            }
        } else {
            None
        };
        self.make_mirror(git, url, &mirror)?;
        if let Some(complaint) = complaint {
            log::append_note(&self.workbench(), &format!("{complaint}; its mirror was made again"));
        }
        Ok(self.clone_of_mirror(git, repository, &mirror)?)
    }

    fn lock_mirror(&mut self, path: &Path) -> Result<FileLock, NotPrepared> {
        loop {
            match FileLock::acquire(path, Mode::Exclusive, Duration::ZERO) {
                Ok(lock) => return Ok(lock),
                Err(error) if !error.is_held() => return Err(NotPrepared::failed(error)),
                Err(_) => {}
            }
            self.child_or_end()?;
            self.wake.wait(LOCK_PAUSE);
        }
    }

    /// Makes a mirror, in the place of one that is there.
    fn make_mirror(&mut self, git: &Git, url: &str, mirror: &Path) -> Result<(), NotPrepared> {
        let new = mirror.with_extension("new");
        // Of a name of its own: one that cannot be removed is in nobody's way.
        let damaged = mirror.with_extension(format!("damaged-{}", random_suffix()));
        // Left behind by a process that was ended here; the lock is ours.
        remove_whatever(&new).map_err(|source| NotPrepared::failed(FileError::io("remove", &new, source)))?;
        let arguments = ["clone", "--quiet", "--mirror", "--no-local", "--template=", "--"].map(OsStr::new);
        self.git(git, &[&arguments[..], &[url.as_ref(), new.as_ref()]].concat(), url)?;
        let in_place = match std::fs::rename(mirror, &damaged) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => std::fs::rename(&new, mirror),
        };
        in_place.map_err(|source| NotPrepared::failed(FileError::io("make", mirror, source)))?;
        if let Err(error) = remove_whatever(&damaged) {
            tracing::warn!(path = %damaged.display(), %error, "a damaged mirror is left in the cache");
        }
        Ok(())
    }

    /// Brings a mirror up to date. The URL is said again: two URLs of one hash are then slow, and never mixed up.
    fn fetch(&mut self, git: &Git, repository: &Repository, mirror: &Path) -> Result<(), CloneError> {
        let url = repository.url.as_str();
        let directory = git_directory(mirror);
        let fetch = ["fetch", "--quiet", "--prune", "--no-recurse-submodules", "--", url, "+refs/*:refs/*"];
        self.git(git, &[&[directory.as_os_str()], &fetch.map(OsStr::new)[..]].concat(), url)?;
        if repository.branch.is_some() {
            return Ok(());
        }
        // A fetch does not show that the repository's default branch is another by now.
        self.git(git, &["ls-remote", "--symref", "--", url, "HEAD"].map(OsStr::new), url)?;
        let said = self.answer_of_git()?;
        if let Some(head) = default_branch(&said) {
            let point = ["symbolic-ref", "HEAD", head].map(OsStr::new);
            self.git(git, &[&[directory.as_os_str()], &point[..]].concat(), url)?;
        }
        Ok(())
    }

    fn clone_of_mirror(&mut self, git: &Git, repository: &Repository, mirror: &Path) -> Result<(), CloneError> {
        let url = repository.url.as_str();
        self.check_branch(git, repository, mirror)?;
        let target = self.workbench().directory().join(directory_of(repository).unwrap_or_default());
        // What a first attempt left.
        remove_whatever(&target).map_err(|source| NotPrepared::failed(FileError::io("remove", &target, source)))?;
        make_parent(&target).map_err(NotPrepared::failed)?;
        // Not local: no hard links, no borrowed objects. Files come last, when filters can already ask the real origin.
        let options = ["clone", "--quiet", "--no-local", "--no-checkout", "--no-recurse-submodules", "--template="];
        let branch = repository.branch.as_ref().map(|branch| OsString::from(format!("--branch={branch}")));
        let mut arguments: Vec<&OsStr> = options.map(OsStr::new).to_vec();
        arguments.extend(branch.as_deref());
        arguments.extend(["--origin=origin", "--"].map(OsStr::new));
        arguments.extend([mirror.as_os_str(), target.as_os_str()]);
        self.git(git, &arguments, url)?;
        let within = |words: &[&'static str]| {
            let words = words.iter().copied().map(OsStr::new);
            [OsStr::new("-C"), target.as_os_str()].into_iter().chain(words).collect::<Vec<_>>()
        };
        let mut origin = within(&["config", "remote.origin.url"]);
        origin.push(url.as_ref());
        self.git(git, &origin, url)?;
        self.git(git, &within(&["for-each-ref", "--format=%(objectname) %(refname)"]), url)?;
        let refs = self.answer_of_git()?;
        self.record_clone(repository, &refs).map_err(NotPrepared::failed)?;
        if self.try_git(git, &within(&["rev-parse", "--verify", "--quiet", "HEAD"]))?.is_none() {
            return self.git(git, &within(&["reset", "--quiet", "--hard"]), url);
        }
        if refs.is_empty() {
            return Ok(());
        }
        let problem = format!("cannot clone {}: its default branch does not exist; give a `branch`", masked(url));
        Err(NotPrepared::failed(problem).into())
    }

    /// Records what a clone has, before its agent starts: whatever it has then is no work of the run.
    fn record_clone(&self, repository: &Repository, refs: &str) -> Result<(), FileError> {
        let refs = refs.lines().filter_map(|line| line.split_once(' '));
        let refs = refs.filter_map(|(id, name)| Some((name.to_owned(), id.parse().ok()?)));
        let cloned = Cloned { url: masked(repository.url.as_str()), refs: refs.collect() };
        let path = directory_of(repository).unwrap_or_default();
        archive::add_clone(&self.context.home, self.entry.id(), path.as_ref(), cloned)
    }

    /// Makes sure that a mirror that is up to date has the branch that is asked for.
    fn check_branch(&mut self, git: &Git, repository: &Repository, mirror: &Path) -> Result<(), CloneError> {
        let Some(branch) = &repository.branch else { return Ok(()) };
        let url = repository.url.as_str();
        let directory = git_directory(mirror);
        let mut ask = |words: &[&str]| -> Result<String, CloneError> {
            let words = std::iter::once("for-each-ref").chain(words.iter().copied()).map(OsStr::new);
            let arguments: Vec<&OsStr> = std::iter::once(directory.as_os_str()).chain(words).collect();
            self.git(git, &arguments, url)?;
            self.answer_of_git()
        };
        let wanted = [format!("refs/heads/{branch}"), format!("refs/tags/{branch}")];
        // `feat` also finds `feat/x`.
        let found = ask(&["--format=%(refname)", "--", &wanted[0], &wanted[1]])?;
        if found.lines().any(|name| wanted.iter().any(|wanted| wanted == name)) {
            return Ok(());
        }
        let newest = ask(&["--count=5", "--sort=-committerdate", "--format=%(refname:short)", "--", "refs/heads/"])?;
        let newest = newest.lines().collect::<Vec<_>>().join(", ");
        let has =
            if newest.is_empty() { "it has no branch".to_owned() } else { format!("its newest branches: {newest}") };
        Err(NotPrepared::failed(format_args!(
            "cannot clone {}: it has no branch or tag '{branch}' ({has}); correct `branch`, or leave it out for the default \
             branch",
            masked(url)
        ))
        .into())
    }

    /// Runs git, which has to succeed.
    fn git(&mut self, git: &Git, arguments: &[&OsStr], url: &str) -> Result<(), CloneError> {
        match self.try_git(git, arguments)? {
            None => Ok(()),
            Some(how) => {
                let text = format!("cannot clone {url}: git {how}{}", self.words_of_git());
                Err(CloneError::Git(masked(&text)))
            }
        }
    }

    fn answer_of_git(&self) -> Result<String, CloneError> {
        Ok(atomic_file::read_text(&self.entry.file(GIT_LOG)).map_err(NotPrepared::failed)?)
    }

    /// Returns the last of what git said, ready to be appended to a sentence.
    fn words_of_git(&self) -> String {
        let said = atomic_file::read(&self.entry.file(GIT_LOG), atomic_file::MAX_RECORD_BYTES).unwrap_or_default();
        quoted(&String::from_utf8_lossy(&said))
    }

    /// Runs git; returns how it failed, if it did.
    fn try_git(&mut self, git: &Git, arguments: &[&OsStr]) -> Result<Option<String>, NotPrepared> {
        let pid = git.spawn(arguments, &self.entry.file(GIT_LOG)).map_err(NotPrepared::failed)?;
        self.children.set_agent(pid);
        let exit = self.await_child()?;
        Ok((exit.code != Some(0)).then(|| exit.how()))
    }
}

/// Removes what is there, if anything.
fn remove_whatever(path: &Path) -> std::io::Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn git_directory(mirror: &Path) -> OsString {
    let mut argument = OsString::from("--git-dir=");
    argument.push(mirror);
    argument
}

/// Finds the default branch in what `git ls-remote --symref` prints: a line `ref: <branch><tab>HEAD`.
fn default_branch(said: &str) -> Option<&str> {
    let branch = said.lines().find_map(|line| line.strip_prefix("ref: ")?.strip_suffix("\tHEAD"))?;
    branch.starts_with("refs/heads/").then_some(branch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_branch_is_the_one_that_head_names() {
        assert_eq!(default_branch("warning: x\nref: refs/heads/a/b\tHEAD\n0123\tHEAD\n"), Some("refs/heads/a/b"));
        assert_eq!(default_branch("0123\tHEAD\n"), None);
        assert_eq!(default_branch("ref: --x\tHEAD\n"), None);
        assert_eq!(default_branch(""), None);
    }

    #[test]
    fn git_gets_no_variable_of_its_own_from_anybody() {
        let inherited = ["PATH", "HOME", "GIT_SSH_COMMAND", "GIT_CONFIG_COUNT", "GIT_DIR"];
        let path = std::env::var("PATH").unwrap();
        let inherited = inherited.map(|name| (name.parse().unwrap(), path.clone())).into();
        let git = Git::find(&inherited, &Cookie::random().unwrap()).unwrap();
        let names: Vec<&str> = git.environment.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["HOME", "PATH", "GIT_ALLOW_PROTOCOL", "GIT_TERMINAL_PROMPT", COOKIE_VARIABLE]);
        let nowhere = [("PATH".parse().unwrap(), "/nowhere".to_owned())].into();
        let error = Git::find(&nowhere, &Cookie::random().unwrap()).err().unwrap();
        assert!(error.contains("git was not found") && error.contains("/nowhere"), "{error}");
    }
}
