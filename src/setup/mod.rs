//! Adding this program to an agent host's configuration, and taking it out again.
//!
//! A configuration belongs to the person and to the host: an edit is planned as text (`Plan`), shown as a diff, and
//! written only over what it was planned for, with the former text kept beside it. What cannot be read is left alone.

mod apply;
mod entry;
mod hosts;
mod json;
mod ssh;
mod toml;

pub(crate) use apply::{Plan, SetupError, config_to_edit};
pub use entry::Entry;
pub use hosts::{HOSTS, Host, Surroundings};
pub(crate) use ssh::{RemoteProgram, SshHost, check as check_over_ssh};

use crate::env_vars::HOME as HOME_VARIABLE;
use hosts::Form;

/// What matters of an entry of our name that is there already.
struct Seen<'a> {
    keys: Vec<&'a str>,
    /// What [`KINDS`] say.
    kinds: [Option<String>; KINDS.len()],
    names_a_program: bool,
}

impl Seen<'_> {
    /// Returns whether it describes a server that is started as a program. Of any other, nothing is kept: hosts refuse a
    /// `command` beside a `url`, some with their whole configuration.
    fn is_started_as_a_program(&self, form: &Form) -> bool {
        let is_program = |kind: &String| form.program_kinds.iter().any(|known| kind.eq_ignore_ascii_case(known));
        self.names_a_program
            && self.kinds.iter().flatten().all(is_program)
            && !self.keys.iter().any(|key| ADDRESS_KEYS.contains(key))
    }
}

/// The keys under which hosts name the address of a server that is reached over a network (their documentation, as of
/// November 2026).
const ADDRESS_KEYS: [&str; 5] = ["httpUrl", "serverUrl", "tcp", "uri", "url"];

/// The keys that tell the kind of a server.
const KINDS: [&str; 2] = ["type", "transport"];

type Problem = String;
