//! `outcome.json` in a run's workbench, where the agent may have been before us.

use std::path::Path;

use rustix::io::Errno;
use serde::Deserialize;

use super::continuation;
use super::entry::Entry;
use super::id::RunId;
use super::record::{self, Outcome, RecordError};
use super::workbench::Workbench;
use crate::home::atomic_file::{self, FileError};
use crate::home::{self, Home};
use crate::process_tree::Cookie;

/// Reads the outcome of a finished run.
///
/// # Errors
/// There is none, it is damaged, about another run, or newer than this program.
pub fn read_outcome(workbench: &Workbench, id: &RunId) -> Result<Outcome, RecordError> {
    let path = workbench.outcome_file();
    let outcome: Outcome = record::read(&path)?;
    if outcome.id == *id {
        Ok(outcome.in_plain_words())
    } else {
        Err(FileError::damaged(&path, format_args!("it is about the run {}", outcome.id)).into())
    }
}

/// Reads the outcome of the newest run of a workbench that is over.
///
/// # Errors
/// There is none, it is damaged, newer than this program, or about a run that is none of this workbench.
pub fn read_newest_outcome(home: &Home, workbench: &RunId) -> Result<Outcome, RecordError> {
    let runs = continuation::runs_of(home, workbench)?;
    let named = Workbench::named(home, workbench);
    let path = named.outcome_file();
    let outcome: Outcome = record::read(&path)?;
    // A claim may have died before its run came to be.
    if runs.iter().rev().take(2).any(|run| *run == outcome.id) {
        Ok(outcome.in_plain_words())
    } else {
        Err(FileError::damaged(&path, format_args!("it is about the run {}", outcome.id)).into())
    }
}

/// Returns the outcome that the supervisor wrote. Something else in its place does not carry the run's cookie, unless the agent
/// itself put it there, which then lies about itself alone.
///
/// # Errors
/// There is one that cannot be read now, or by us: what it says is not known.
pub fn written_outcome(workbench: &Workbench, id: &RunId, cookie: &Cookie) -> Result<Option<Outcome>, RecordError> {
    #[derive(Deserialize)]
    struct Carrier {
        cookie: Cookie,
    }
    match read_outcome(workbench, id) {
        Ok(outcome) => Ok((outcome.cookie == *cookie).then_some(outcome)),
        Err(RecordError::File(error)) if cannot_be_one(&error) => Ok(None),
        Err(error @ RecordError::Newer { .. }) => match atomic_file::read_json(&workbench.outcome_file()) {
            Ok(Carrier { cookie: carried }) if carried != *cookie => Ok(None),
            Err(FileError::Damaged { .. }) => Ok(None),
            _ => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// Whether there is no outcome: nothing is in its place, or something that only an agent puts or closes there. Any other error
/// leaves open what it says.
fn cannot_be_one(error: &FileError) -> bool {
    let errors = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::NXIO, Errno::ACCESS];
    match error {
        FileError::Damaged { .. } => true,
        FileError::Io { source, .. } => Errno::from_io_error(source).is_some_and(|errno| errors.contains(&errno)),
    }
}

pub(super) fn write_outcome(home: &Home, outcome: &Outcome) -> Result<(), FileError> {
    let workbench = outcome.workbench(home);
    // The agent may have removed or replaced its workbench, closed it, or put something in the outcome's place.
    if workbench.exists() {
        restore_access(workbench.directory())?;
    } else {
        put_aside(home, workbench.directory())?;
        workbench.make()?;
    }
    let path = workbench.outcome_file();
    if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        restore_access(&path)?;
        put_aside(home, &path)?;
    }
    let entry = Entry::of(home, &outcome.id);
    // A person may have removed the entry.
    let staging = if entry.exists() { entry.directory() } else { workbench.directory() };
    atomic_file::write_json_by_way_of(staging, &path, outcome)
}

fn restore_access(directory: &Path) -> Result<(), FileError> {
    home::restore_access(directory).map_err(|source| FileError::io("change the mode of", directory, source))
}

pub(super) fn put_aside(home: &Home, path: &Path) -> Result<(), FileError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = format!("{name}.{}", home::random_suffix());
    let moved = match std::fs::rename(path, home.trash().join(&aside)) {
        // Within a workbench that is a mount of its own.
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
            std::fs::rename(path, path.with_file_name(aside))
        }
        moved => moved,
    };
    match moved {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(FileError::io("put aside", path, source)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::status::Status;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_what_cannot_be_an_outcome_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let outcome = Outcome::example("a-1", Status::Succeeded);
        let workbench = outcome.workbench(&home);
        let path = workbench.outcome_file();
        let read = || written_outcome(&workbench, &outcome.id, &outcome.cookie);
        std::fs::write(workbench.directory(), "").unwrap();
        assert_eq!(read().unwrap(), None, "no directory");
        std::fs::remove_file(workbench.directory()).unwrap();
        assert_eq!(read().unwrap(), None, "no workbench");
        workbench.make().unwrap();
        assert_eq!(read().unwrap(), None);
        std::os::unix::fs::symlink("outcome.json", &path).unwrap();
        assert_eq!(read().unwrap(), None);
        std::fs::remove_file(&path).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert_eq!(read().unwrap(), None);
        std::fs::remove_file(&path).unwrap();
        for text in ["{", r#"{"version":3}"#, r#"{"version":3,"cookie":"00000000000000000000000000000000"}"#] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read().unwrap(), None, "{text}");
        }
        std::fs::write(&path, format!(r#"{{"version":3,"cookie":"{}"}}"#, outcome.cookie)).unwrap();
        assert!(matches!(read(), Err(RecordError::Newer { .. })), "of this run, by a newer program");
        atomic_file::write_json(&path, &outcome).unwrap();
        assert_eq!(read().unwrap().as_ref(), Some(&outcome));
        for (errno, none) in [(Errno::MFILE, false), (Errno::IO, false), (Errno::ACCESS, true)] {
            assert_eq!(cannot_be_one(&FileError::io("open", &path, errno.into())), none, "{errno}");
        }
    }

    #[test]
    fn an_outcome_is_written_whatever_the_agent_left_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let id: RunId = "a-1".parse().unwrap();
        let outcome = Outcome::example("a-1", Status::Succeeded);
        let workbench = Workbench::of(&home, &id);
        std::fs::create_dir(Entry::of(&home, &id).directory()).unwrap();
        let elsewhere = dir.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        let leave: [&dyn Fn(); 6] = [
            &|| {},
            &|| std::os::unix::fs::symlink(&elsewhere, workbench.directory()).unwrap(),
            &|| std::fs::write(workbench.directory(), "").unwrap(),
            &|| std::fs::create_dir_all(workbench.outcome_file().join("full")).unwrap(),
            &|| {
                workbench.make().unwrap();
                std::os::unix::fs::symlink(elsewhere.join("file"), workbench.outcome_file()).unwrap();
            },
            &|| {
                std::fs::create_dir_all(workbench.outcome_file().join("full")).unwrap();
                for path in [workbench.outcome_file(), workbench.directory().to_owned()] {
                    std::fs::set_permissions(path, PermissionsExt::from_mode(0o000)).unwrap();
                }
            },
        ];
        for leave in leave {
            leave();
            write_outcome(&home, &outcome).unwrap();
            assert_eq!(read_outcome(&workbench, &id).unwrap(), outcome);
            let mode = workbench.directory().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o700, 0o700, "only its owner could write there, and only root with this mode");
            std::fs::remove_dir_all(workbench.directory()).unwrap();
        }
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
    }
}
