//! Taking over a workbench: what belongs to its last run moves aside, so that the next one finds it as a new run finds its own.

use std::io;
use std::path::Path;

use serde::Serialize;

use crate::home::atomic_file::{self, FileError};
use crate::home::{self, Home, make_directory};
use crate::run::id::RunId;
use crate::run::outcome_file;
use crate::run::record::{RECORD_VERSION, RecordError};
use crate::run::workbench::{PREVIOUS, Workbench};

/// Moves the files of a finished run into a folder of its own below the workbench, unless that was done. The outcome goes last: while
/// it is in its old place, some of it may be left to do, also after a crash.
///
/// # Errors
/// The workbench is gone, or the system refuses; it can be tried again.
pub(crate) fn take_over(home: &Home, workbench: &Workbench, predecessor: &RunId) -> Result<(), FileError> {
    match outcome_file::read_outcome(workbench, predecessor) {
        Ok(_) => {}
        Err(RecordError::File(error @ FileError::Io { .. })) if !error.is_not_found() => return Err(error),
        // It was moved, or the agent of the run that follows has been there.
        Err(_) => return Ok(()),
    }
    let previous = workbench.clone().of_previous(predecessor);
    let directory = workbench.directory().join(PREVIOUS);
    make_real_directory(home, &directory)?;
    let directory = directory.join(predecessor.to_string());
    make_real_directory(home, &directory)?;
    let outcome = (workbench.outcome_file(), previous.outcome_file());
    for (from, to) in workbench.own_files().into_iter().zip(previous.own_files()).chain([outcome]) {
        move_file(home, &from, &to)?;
    }
    atomic_file::sync_directory(&directory)?;
    let placeholder = Placeholder { version: RECORD_VERSION, continues: predecessor };
    atomic_file::write_json(&workbench.outcome_file(), &placeholder)
}

/// What is in the outcome's place until there is one. Release 0.1.0 knows no run by the name of this workbench now, and would take it for
/// abandoned; a record that is newer than it keeps its hands off.
#[derive(Serialize)]
struct Placeholder<'a> {
    version: u32,
    continues: &'a RunId,
}

/// Makes a directory in which an agent may have put anything else.
fn make_real_directory(home: &Home, path: &Path) -> Result<(), FileError> {
    match path.symlink_metadata() {
        Ok(there) if there.is_dir() => {
            return home::restore_access(path).map_err(|source| FileError::io("change the mode of", path, source));
        }
        Ok(_) => outcome_file::put_aside(home, path)?,
        Err(_) => {}
    }
    make_directory(path).map_err(|source| FileError::io("make", path, source))
}

fn move_file(home: &Home, from: &Path, to: &Path) -> Result<(), FileError> {
    if from.symlink_metadata().is_err() {
        return Ok(());
    }
    if to.symlink_metadata().is_ok() {
        // An agent may have been here before us.
        outcome_file::put_aside(home, to)?;
    }
    match std::fs::rename(from, to) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(FileError::io("move", from, source)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::outcome_file::{read_outcome, write_outcome};
    use crate::run::record::Outcome;
    use crate::run::status::Status;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A workbench in which a run ended.
    fn ended() -> (tempfile::TempDir, Home, Workbench, RunId) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let outcome = Outcome::example("a-1", Status::Asked);
        let workbench = Workbench::named(&home, &outcome.id);
        workbench.make().unwrap();
        for (n, file) in workbench.own_files().iter().enumerate() {
            std::fs::write(file, n.to_string()).unwrap();
        }
        std::fs::write(workbench.directory().join("work.txt"), "stays").unwrap();
        write_outcome(&home, &outcome).unwrap();
        (dir, home, workbench, outcome.id)
    }

    fn is_moved(workbench: &Workbench, run: &RunId) {
        let previous = workbench.clone().of_previous(run);
        assert!(read_outcome(&previous, run).is_ok());
        for (n, (old, new)) in workbench.own_files().iter().zip(previous.own_files()).enumerate() {
            assert_eq!(std::fs::read_to_string(&new).unwrap(), n.to_string(), "{}", new.display());
            assert!(!old.exists());
        }
        let placeholder: serde_json::Value = atomic_file::read_json(&workbench.outcome_file()).unwrap();
        assert_eq!(placeholder, serde_json::json!({ "version": 2, "continues": run }), "0.1.0 leaves it alone");
        assert!(read_outcome(workbench, run).is_err());
        assert_eq!(std::fs::read_to_string(workbench.directory().join("work.txt")).unwrap(), "stays");
    }

    #[test]
    fn the_files_of_the_last_run_move_aside_and_its_work_stays() {
        let (_dir, home, workbench, run) = ended();
        take_over(&home, &workbench, &run).unwrap();
        is_moved(&workbench, &run);
        std::fs::write(workbench.prompt_file(), "of the next").unwrap();
        take_over(&home, &workbench, &run).unwrap();
        assert!(workbench.prompt_file().exists(), "it was done");
    }

    #[test]
    fn it_goes_on_wherever_it_was_interrupted() {
        let files = ended().2.own_files().len();
        for moved in 0..=files {
            let (_dir, home, workbench, run) = ended();
            let previous = workbench.clone().of_previous(&run);
            std::fs::create_dir_all(previous.prompt_file().parent().unwrap()).unwrap();
            for (old, new) in workbench.own_files().iter().zip(previous.own_files()).take(moved) {
                std::fs::rename(old, new).unwrap();
            }
            take_over(&home, &workbench, &run).unwrap();
            is_moved(&workbench, &run);
        }
    }

    #[test]
    fn what_an_agent_put_in_the_way_leads_nowhere() {
        let elsewhere = tempfile::tempdir().unwrap();
        let hostile: [&dyn Fn(&Workbench); 5] = [
            &|workbench| symlink(elsewhere.path(), workbench.directory().join(PREVIOUS)).unwrap(),
            &|workbench| std::fs::write(workbench.directory().join(PREVIOUS), "").unwrap(),
            &|workbench| {
                std::fs::create_dir(workbench.directory().join(PREVIOUS)).unwrap();
                symlink(elsewhere.path(), workbench.directory().join(PREVIOUS).join("a-1")).unwrap();
            },
            &|workbench| {
                let previous = workbench.directory().join(PREVIOUS).join("a-1");
                std::fs::create_dir_all(previous.join("outcome.json/full")).unwrap();
                std::fs::create_dir_all(previous.join("agent.log/full")).unwrap();
            },
            &|workbench| {
                let previous = workbench.directory().join(PREVIOUS);
                std::fs::create_dir(&previous).unwrap();
                std::fs::set_permissions(&previous, PermissionsExt::from_mode(0o000)).unwrap();
            },
        ];
        for put in hostile {
            let (_dir, home, workbench, run) = ended();
            put(&workbench);
            take_over(&home, &workbench, &run).unwrap();
            is_moved(&workbench, &run);
        }
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }
}
