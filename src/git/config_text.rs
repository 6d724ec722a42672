//! A repository's configuration, read as text: nothing that it includes is read, nothing that it names is run.

use std::path::Path;
use std::time::Instant;

use super::program::{Git, GitError, Input};
use crate::home::atomic_file;

const MAX_CONFIG_BYTES: u64 = 4 * 1024 * 1024;

/// The little of a repository's configuration that changes how its data is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// The name of each remote, with its URLs.
    pub(super) remotes: Vec<(String, Vec<String>)>,
    /// Objects may be missing, because a remote promises them.
    pub(super) is_partial: bool,
    /// `sha1` unless said.
    pub(super) object_format: Option<String>,
    /// `files` unless said.
    pub(super) ref_storage: Option<String>,
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
        let Some((name, variable)) = key.strip_prefix("remote.").and_then(|rest| rest.rsplit_once('.')) else {
            continue;
        };
        match variable {
            "url" => match settings.remotes.iter_mut().find(|(known, _)| known == name) {
                Some((_, urls)) => urls.push(value.to_owned()),
                None => settings.remotes.push((name.to_owned(), vec![value.to_owned()])),
            },
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
        let urls = |urls: &[&str]| urls.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            settings.remotes,
            [("origin".to_owned(), urls(&["https://one", "https://two"])), ("a.b".to_owned(), urls(&["../x"]))]
        );
        assert_eq!((settings.object_format.as_deref(), settings.is_partial), (Some("sha256"), true));
        assert!(parse(b"extensions.future\ntrue\0").unwrap_err().to_string().contains("'future'"));
    }
}
