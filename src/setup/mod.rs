//! Adding this program to an agent host's configuration, and taking it out again.
//!
//! A configuration belongs to the person and to the host: an edit is planned as text (`Plan`), shown as a diff, and
//! written only over what it was planned for, with the former text kept beside it. What cannot be read is left alone.

mod apply;
mod hosts;
mod json;
mod toml;

use std::path::{Path, PathBuf};

pub(crate) use apply::Plan;
pub use hosts::{HOSTS, Host, Surroundings};

const NAME: &str = "moadim";

use crate::env_vars::HOME as HOME_VARIABLE;

/// What a host starts.
#[derive(Debug, Clone)]
pub struct Entry {
    command: String,
    home: Option<String>,
}

/// No configuration file can hold such a path.
#[derive(Debug, thiserror::Error)]
#[error("{} is not UTF-8, so no configuration can name it; rename it", .0.display())]
pub struct NotText(PathBuf);

impl Entry {
    /// Makes the entry of this program, an absolute path, with the moadim home that a person set, if they did.
    pub fn new(program: &Path, home: Option<&Path>) -> Result<Self, NotText> {
        let text = |path: &Path| path.to_str().map(str::to_owned).ok_or_else(|| NotText(path.to_owned()));
        Ok(Self { command: text(program)?, home: home.map(text).transpose()? })
    }

    /// Returns whether the arguments beside `command` are for us, not for another program through which we were started.
    fn keeps_arguments_of(&self, command: Option<&str>) -> bool {
        command.is_some_and(|command| Path::new(command).file_name() == Path::new(&self.command).file_name())
    }
}

/// Returns whether an entry of our name describes a server that is not started as a program. Nothing of it is kept: hosts refuse
/// a `command` beside a `url`, some with their whole configuration.
fn is_of_another_transport<'a>(
    mut keys: impl Iterator<Item = &'a str>,
    kinds: [Option<String>; 2],
    command_is_text: Option<bool>,
) -> bool {
    kinds.into_iter().flatten().any(|kind| !kind.eq_ignore_ascii_case("stdio"))
        || command_is_text != Some(true)
        || keys.any(|key| ADDRESS_KEYS.contains(&key))
}

/// The keys under which hosts name the address of a server that is reached over a network (their documentation, as of
/// November 2026).
const ADDRESS_KEYS: [&str; 5] = ["httpUrl", "serverUrl", "tcp", "uri", "url"];

/// The keys that tell the kind of a server.
const KINDS: [&str; 2] = ["type", "transport"];

/// A value that a new entry gets, and that an older one keeps as it is.
#[derive(Debug, Clone, Copy)]
enum Extra {
    Text(&'static str),
    Number(i64),
}

type Problem = String;
