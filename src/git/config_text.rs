//! A repository's configuration, read as text: nothing that it includes is read, nothing that it names is run.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::program::{Git, GitError, Input};
use crate::home::atomic_file;

const MAX_CONFIG_BYTES: u64 = 4 * 1024 * 1024;

/// The little of a repository's configuration that changes how its data is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) remotes: Vec<RemoteSettings>,
    /// Whether it has rules that turn URLs into others.
    pub(super) rewrites_urls: bool,
    /// Objects may be missing, because a remote promises them.
    pub(super) is_partial: bool,
    /// `sha1` unless said.
    pub(super) object_format: Option<String>,
    /// `files` unless said.
    pub(super) ref_storage: Option<String>,
    /// Where its files are, relative to the git directory; beside that one unless said.
    pub(super) worktree: Option<PathBuf>,
    /// Where Git LFS keeps contents, relative to the git directory; in `lfs` unless said.
    pub(super) lfs_storage: Option<PathBuf>,
    /// Each working tree has a configuration of its own, too.
    has_worktree_config: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RemoteSettings {
    pub(super) name: String,
    pub(super) urls: Vec<String>,
    /// Where pushes go instead.
    pub(super) push_urls: Vec<String>,
}

impl Settings {
    pub(super) fn has_reftable(&self) -> bool {
        self.ref_storage.as_deref() == Some("reftable")
    }

    /// Takes what `git config -z --list` prints; what is set again counts last.
    fn parse(&mut self, printed: &[u8]) -> Result<(), GitError> {
        for setting in printed.split(|byte| *byte == 0).filter(|setting| !setting.is_empty()) {
            // A key alone means true.
            let end = setting.iter().position(|byte| *byte == b'\n');
            let (key, bytes) = end.map_or((setting, &b"true"[..]), |end| (&setting[..end], &setting[end + 1..]));
            let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(bytes));
            let path = || Some(PathBuf::from(OsStr::from_bytes(bytes)));
            if let Some(extension) = key.strip_prefix("extensions.") {
                match extension {
                    "objectformat" => self.object_format = Some(value.to_ascii_lowercase()),
                    "refstorage" => self.ref_storage = Some(value.to_ascii_lowercase()),
                    "partialclone" => self.is_partial = true,
                    "worktreeconfig" => self.has_worktree_config = is_true(&value),
                    known if HARMLESS_EXTENSIONS.contains(&known) => {}
                    _ => return Err(GitError::Odd(format!("its extension '{extension}' is not known here"))),
                }
            }
            match &*key {
                "core.worktree" => self.worktree = path(),
                "lfs.storage" => self.lfs_storage = path(),
                _ => {}
            }
            self.rewrites_urls |= key.starts_with("url.") && key.ends_with("insteadof");
            let Some((name, variable)) = key.strip_prefix("remote.").and_then(|rest| rest.rsplit_once('.')) else {
                continue;
            };
            match variable {
                "url" => self.remote(name).urls.push(value.into_owned()),
                "pushurl" => self.remote(name).push_urls.push(value.into_owned()),
                "promisor" | "partialclonefilter" => self.is_partial = true,
                _ => {}
            }
        }
        Ok(())
    }

    fn remote(&mut self, name: &str) -> &mut RemoteSettings {
        let at = self.remotes.iter().position(|remote| remote.name == name).unwrap_or_else(|| {
            self.remotes.push(RemoteSettings { name: name.to_owned(), ..RemoteSettings::default() });
            self.remotes.len() - 1
        });
        &mut self.remotes[at]
    }
}

/// Extensions that do not change how refs, index and objects are read.
const HARMLESS_EXTENSIONS: [&str; 4] = ["noop", "noop-v1", "preciousobjects", "relativeworktrees"];

fn is_true(value: &str) -> bool {
    !matches!(value.to_ascii_lowercase().as_str(), "" | "false" | "no" | "off" | "0")
}

/// Reads the configuration of a working tree with this git directory, through copies of its files in `scratch`.
///
/// # Errors
/// It cannot be read or parsed, or has an extension that is not known.
pub(super) fn read(
    git: &Git,
    git_dir: &Path,
    common_dir: &Path,
    scratch: &Path,
    deadline: Instant,
) -> Result<Settings, GitError> {
    let mut settings = Settings::default();
    settings.parse(&list(git, &common_dir.join("config"), scratch, deadline)?)?;
    if settings.has_worktree_config {
        settings.parse(&list(git, &git_dir.join("config.worktree"), scratch, deadline)?)?;
    } else if git_dir != common_dir {
        // Git takes it for the main working tree's.
        settings.worktree = None;
    }
    Ok(settings)
}

/// Lists what a file that need not be there sets.
fn list(git: &Git, config: &Path, scratch: &Path, deadline: Instant) -> Result<Vec<u8>, GitError> {
    let bytes = match atomic_file::read(config, MAX_CONFIG_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(GitError::Odd(error.to_string())),
    };
    let copy = scratch.join("config-of-run");
    std::fs::write(&copy, bytes).map_err(|source| GitError::io("write", &copy, source))?;
    let arguments = ["config".as_ref(), "--file".as_ref(), copy.as_os_str(), "--no-includes".as_ref()];
    let listed = git.command(&[&arguments[..], &["-z".as_ref(), "--list".as_ref()]].concat());
    listed.run(Input::Nothing, deadline)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(printed: &[u8]) -> Result<Settings, GitError> {
        let mut settings = Settings::default();
        settings.parse(printed).map(|()| settings)
    }

    #[test]
    fn only_what_changes_how_data_is_read_is_taken() {
        let printed = b"core.fsmonitor\n/tmp/evil\0remote.origin.url\nhttps://one\0remote.origin.url\nhttps://two\0\
            remote.a.b.url\n../x\0extensions.noop\0extensions.objectformat\nSHA256\0remote.p.promisor\ntrue\0";
        let settings = parse(printed).unwrap();
        let urls: Vec<(&str, &[String])> =
            settings.remotes.iter().map(|remote| (remote.name.as_str(), &remote.urls[..])).collect();
        let [one, two, x] = ["https://one", "https://two", "../x"].map(str::to_owned);
        assert_eq!(urls, [("origin", &[one, two][..]), ("a.b", &[x][..])]);
        assert!(!settings.rewrites_urls);
        let moved = parse(b"remote.o.pushurl\n../x\0url.../y.pushinsteadof\nhttps://h/\0").unwrap();
        assert_eq!((moved.rewrites_urls, &moved.remotes[0].push_urls[..]), (true, &["../x".to_owned()][..]));
        assert_eq!((settings.object_format.as_deref(), settings.is_partial), (Some("sha256"), true));
        let paths = parse(b"core.worktree\n../\xff\0lfs.storage\na\0lfs.storage\nb\0").unwrap();
        assert_eq!(paths.worktree.as_deref(), Some(Path::new(OsStr::from_bytes(b"../\xff"))));
        assert_eq!(paths.lfs_storage.as_deref(), Some(Path::new("b")));
        assert!(parse(b"extensions.future\ntrue\0").unwrap_err().to_string().contains("'future'"));
    }
}
