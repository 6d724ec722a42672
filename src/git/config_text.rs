//! A repository's configuration, read as text: nothing that it includes is read, nothing that it names is run.

use std::path::Path;
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

    fn remote(&mut self, name: &str) -> &mut RemoteSettings {
        let at = self.remotes.iter().position(|remote| remote.name == name).unwrap_or_else(|| {
            self.remotes.push(RemoteSettings { name: name.to_owned(), ..RemoteSettings::default() });
            self.remotes.len() - 1
        });
        &mut self.remotes[at]
    }
}

/// Extensions that do not change how refs, index and objects are read.
const HARMLESS_EXTENSIONS: [&str; 5] = ["noop", "noop-v1", "preciousobjects", "worktreeconfig", "relativeworktrees"];

/// Reads a configuration through a copy of it in `scratch`.
///
/// # Errors
/// It cannot be read or parsed, or has an extension that is not known.
pub(super) fn read(git: &Git, config: &Path, scratch: &Path, deadline: Instant) -> Result<Settings, GitError> {
    let bytes = match atomic_file::read(config, MAX_CONFIG_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(Settings::default()),
        Err(error) => return Err(GitError::Odd(error.to_string())),
    };
    let copy = scratch.join("config-of-run");
    std::fs::write(&copy, bytes).map_err(|source| GitError::io("write", &copy, source))?;
    let arguments = ["config".as_ref(), "--file".as_ref(), copy.as_os_str(), "--no-includes".as_ref()];
    let listed = git.command(&[&arguments[..], &["-z".as_ref(), "--list".as_ref()]].concat());
    let printed = listed.run(Input::Nothing, deadline)?;
    parse(&printed)
}

fn parse(printed: &[u8]) -> Result<Settings, GitError> {
    let mut settings = Settings::default();
    for setting in printed.split(|byte| *byte == 0).filter(|setting| !setting.is_empty()) {
        let setting = String::from_utf8_lossy(setting);
        // A key alone means true.
        let (key, value) = setting.split_once('\n').unwrap_or((&setting, "true"));
        if let Some(extension) = key.strip_prefix("extensions.") {
            match extension {
                "objectformat" => settings.object_format = Some(value.to_ascii_lowercase()),
                "refstorage" => settings.ref_storage = Some(value.to_ascii_lowercase()),
                "partialclone" => settings.is_partial = true,
                known if HARMLESS_EXTENSIONS.contains(&known) => {}
                _ => return Err(GitError::Odd(format!("its extension '{extension}' is not known here"))),
            }
        }
        settings.rewrites_urls |= key.starts_with("url.") && key.ends_with("insteadof");
        let Some((name, variable)) = key.strip_prefix("remote.").and_then(|rest| rest.rsplit_once('.')) else {
            continue;
        };
        match variable {
            "url" => settings.remote(name).urls.push(value.to_owned()),
            "pushurl" => settings.remote(name).push_urls.push(value.to_owned()),
            "promisor" | "partialclonefilter" => settings.is_partial = true,
            _ => {}
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(parse(b"extensions.future\ntrue\0").unwrap_err().to_string().contains("'future'"));
    }
}
