//! `agents/<name>.env`: variables that an agent gets whichever process starts it. A host and a service are started with different
//! environments, so what an agent inherits from one may be missing in the other.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::process::geteuid;

use super::registry::AgentName;
use crate::environment::{EnvName, Variables};
use crate::home::Home;
use crate::home::atomic_file::{self, FileError, MAX_RECORD_BYTES};

/// Returns the file of an agent; it need not be there.
pub fn path(home: &Home, agent: &AgentName) -> PathBuf {
    home.agents().join(format!("{agent}.env"))
}

/// Reads an agent's file; one that is not there is empty.
///
/// # Errors
/// It is open to other users, is no list of `NAME=value`, or cannot be read. No value is repeated.
pub fn read(home: &Home, agent: &AgentName) -> Result<Variables, FileError> {
    let path = path(home, agent);
    let Some(file) = atomic_file::if_present(atomic_file::open_regular(&path))? else { return Ok(Variables::new()) };
    let fail = |source| FileError::io("read", &path, source);
    let metadata = file.metadata().map_err(fail)?;
    if metadata.mode() & 0o077 != 0 || metadata.uid() != geteuid().as_raw() {
        let problem = format!("other users can read or own it, and it may hold keys: chmod 600 '{}'", path.display());
        return Err(FileError::damaged(&path, problem));
    }
    let mut text = String::new();
    file.take(MAX_RECORD_BYTES).read_to_string(&mut text).map_err(fail)?;
    parse(&text).map_err(|problem| FileError::damaged(&path, problem))
}

/// Parses lines of `NAME=value`: empty ones and those that begin with `#` count for nothing, and one pair of quotes around a value
/// is taken off. Nothing in a value is replaced.
fn parse(text: &str) -> Result<Variables, String> {
    let mut variables = Variables::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: &str| format!("line {} {what}", at + 1);
        let (name, value) = line.split_once('=').ok_or_else(|| wrong("is not NAME=value"))?;
        let name: EnvName = name.trim_end().parse().map_err(|_| {
            wrong("does not begin with the name of a variable: letters, digits and underscores, no digit first")
        })?;
        if name.is_ours() {
            return Err(wrong(&format!("sets {name}; names that begin with MOADIM_ are this program's own")));
        }
        let value = value.trim_start();
        if value.contains('\0') {
            return Err(wrong("holds a NUL character"));
        }
        variables.insert(name, unquoted(value).to_owned());
    }
    Ok(variables)
}

fn unquoted(value: &str) -> &str {
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn lines_are_names_and_values() {
        let text = "# keys\n\nA=1\n B = two words # no comment\nC=\"in quotes\"\nD='x\nE=\nF=a=b\r\nA=again\n";
        let expected =
            [("A", "again"), ("B", "two words # no comment"), ("C", "in quotes"), ("D", "'x"), ("E", ""), ("F", "a=b")];
        let variables = parse(text).unwrap();
        let found: Vec<(String, &str)> =
            variables.iter().map(|(name, value)| (name.to_string(), value.as_str())).collect();
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)));
        for (wrong, place) in [("A=1\nhush", "line 2"), ("A-B=hush", "line 1"), ("MOADIM_COOKIE=hush", "MOADIM_COOKIE")]
        {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains(place) && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_cure() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let agent = "a".parse().unwrap();
        assert_eq!(read(&home, &agent).unwrap(), Variables::new());
        std::fs::write(path(&home, &agent), "KEY=hush").unwrap();
        for (mode, good) in [(0o640, false), (0o604, false), (0o600, true), (0o400, true)] {
            std::fs::set_permissions(path(&home, &agent), Permissions::from_mode(mode)).unwrap();
            match read(&home, &agent) {
                Ok(variables) => assert!(good && variables.len() == 1, "{mode:o}"),
                Err(error) => assert!(!good && error.to_string().contains("chmod 600"), "{mode:o}: {error}"),
            }
        }
    }
}
