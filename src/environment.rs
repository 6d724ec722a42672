//! Environment variables: which names are names, and what a run inherits.

use serde_with::{DeserializeFromStr, SerializeDisplay};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use crate::quote::quote;
use crate::text_type::text_type;

/// Variables by name. Values are text: a variable that is not UTF-8 is never passed on.
pub type Variables = BTreeMap<EnvName, String>;

/// The name of an environment variable as POSIX has it: letters, digits and underscores, no digit first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, SerializeDisplay, DeserializeFromStr)]
pub struct EnvName(String);

/// A text that cannot name an environment variable.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is not the name of an environment variable: letters, digits and underscores, no digit first")]
pub struct NotAnEnvName(String);

impl FromStr for EnvName {
    type Err = NotAnEnvName;

    fn from_str(text: &str) -> Result<Self, NotAnEnvName> {
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if starts_well && text.len() <= 256 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            Ok(Self(text.to_owned()))
        } else {
            // What follows is a value, where both were written.
            let name = text.split_once('=').map_or_else(|| text.to_owned(), |(name, _)| format!("{name}=…"));
            Err(NotAnEnvName(quote(&name, 64)))
        }
    }
}

text_type!(EnvName(text));

/// So that a variable can be looked up by its name as text; the order is that of the text.
impl Borrow<str> for EnvName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<std::ffi::OsStr> for EnvName {
    fn as_ref(&self) -> &std::ffi::OsStr {
        self.0.as_ref()
    }
}

impl EnvName {
    /// Returns whether the variable is one that this program itself gives to a run.
    pub fn is_ours(&self) -> bool {
        self.0.starts_with("MOADIM_")
    }

    /// Returns whether every run inherits the variable.
    pub fn is_inherited(&self) -> bool {
        INHERITED.contains(&self.0.as_str()) || has_prefix(&self.0, &INHERITED_PREFIXES)
    }
}

const INHERITED: [&str; 19] = [
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PATH",
    "LANG",
    "TZ",
    "TMPDIR",
    "TERM",
    "SSH_AUTH_SOCK",
    "NODE_EXTRA_CA_CERTS",
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
];

const INHERITED_PREFIXES: [&str; 5] = ["LC_", "XDG_", "SSL_CERT_", "ALL_PROXY", "FTP_PROXY"];

fn has_prefix(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Picks from `all` what a run inherits: the standing list and `also`, never what is ours.
pub fn inherited(all: &Variables, also: &[EnvName]) -> Variables {
    all.iter()
        .filter(|(name, _)| !name.is_ours() && (name.is_inherited() || also.contains(name)))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Returns the variables of this process that have a POSIX name and a UTF-8 value.
pub fn of_this_process() -> Variables {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.to_str()?.parse().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Returns a command that starts our own program as nobody's child; the words that it gets are still to be added.
pub(crate) fn detached(program: &Path, environment: &Variables) -> Command {
    let mut launcher = Command::new(program);
    launcher.args(["detach", "--"]).arg(program).env_clear().envs(environment);
    launcher.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    launcher
}

/// Returns the directories of a PATH that are the same wherever one is; `None` if there are none. What a relative or an empty entry means
/// is for the writer of the working directory to say.
pub(crate) fn absolute_directories(path: &OsStr) -> Option<OsString> {
    let kept: Vec<PathBuf> = std::env::split_paths(path).filter(|directory| directory.is_absolute()).collect();
    // None of them has a colon in its name: they come from a list.
    std::env::join_paths(kept).ok().filter(|kept| !kept.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(names: &[&str]) -> Variables {
        names.iter().map(|name| (name.parse().unwrap(), "x".to_owned())).collect()
    }

    #[test]
    fn a_run_inherits_what_it_needs_and_no_secret() {
        let all = variables(&["HOME", "PATH", "LC_ALL", "XDG_RUNTIME_DIR", "AWS_SECRET", "MY_KEY", "MOADIM_HOME"]);
        let also = ["MY_KEY".parse().unwrap(), "MOADIM_HOME".parse().unwrap()];
        let expected = variables(&["HOME", "PATH", "LC_ALL", "XDG_RUNTIME_DIR", "MY_KEY"]);
        assert_eq!(inherited(&all, &also), expected);
    }

    #[test]
    fn only_posix_names_are_names() {
        for bad in ["", "1A", "A-B", "A B", "A=B", "É", "A\0"] {
            assert!(bad.parse::<EnvName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_absolute_directories_are_the_same_everywhere() {
        for (path, kept) in [
            ("/a:/b c", Some("/a:/b c")),
            (":/a::./b:b:.:/c:", Some("/a:/c")),
            ("node_modules/.bin", None),
            (".", None),
            ("", None),
        ] {
            assert_eq!(absolute_directories(path.as_ref()).as_deref(), kept.map(OsStr::new), "{path}");
        }
    }
}
