//! Where runs take place on Slurm, servers on several login machines may have the same home open, and their locks may not reach each
//! other. Then one machine schedules, cleans up and records, until a person decides otherwise; the others read, wait, trigger and stop.
//!
//! All processes under one kernel share their locks, those in containers too: they count as one machine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::clock::{Moment, UnixSeconds};
use crate::home::atomic_file::{self, FileError};
use crate::home::config::EngineKind;
use crate::home::{self, Home};
use crate::process_tree::{host_name, machine_id};
use crate::quote::quote;
use crate::routine::known::{Known, Look};
use crate::run::context::Context;

/// A machine, as `locks/machine.json` names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HomeMachine {
    machine_id: String,
    boot_id: String,
    host: String,
    /// Since when it schedules and cleans up.
    pub(crate) since: UnixSeconds,
}

impl HomeMachine {
    pub(crate) fn this() -> Self {
        let now = Moment::now();
        Self { machine_id: machine_id(), boot_id: now.boot_id, host: host_name(), since: now.at }
    }

    /// Whether the other is the same machine: the same kernel, or the same one before it was started again. Machines that are copies
    /// of one image share an id, and hardly their names.
    fn is_same(&self, other: &Self) -> bool {
        let same = |one: &str, other: &str| !one.is_empty() && one == other;
        same(&self.boot_id, &other.boot_id)
            || (same(&self.machine_id, &other.machine_id) && same(&self.host, &other.host))
    }

    /// Whether all that it is known by is the same: after a restart its boot is another, and a container has a name of its own.
    fn is_as_named(&self, other: &Self) -> bool {
        (&self.machine_id, &self.boot_id, &self.host) == (&other.machine_id, &other.boot_id, &other.host)
    }

    /// Returns its name.
    pub(crate) fn name(&self) -> String {
        let name = [&self.host, &self.machine_id].into_iter().find(|name| !name.is_empty());
        name.map_or_else(|| "a machine without a name".to_owned(), |name| quote(name, 64))
    }

    /// Returns the file that says whether its locks reach others.
    fn reach_file(&self, home: &Home) -> PathBuf {
        let key = format!("{}\0{}", self.machine_id, self.host);
        home.locks_reach().join(format!("{:016x}.json", home::stable_hash(key.as_bytes())))
    }
}

/// `locks/reach/*.json`: a job saw a lock that this machine held.
#[derive(Debug, Serialize, Deserialize)]
struct Reach {
    host: String,
    node: String,
    at: UnixSeconds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// This one does, perhaps among others.
    Works,
    /// It does once it has claimed that.
    Claims,
    /// The owner alone does.
    StandsBack,
}

fn decide(owner: Option<&HomeMachine>, here: &HomeMachine, do_locks_reach: bool) -> Decision {
    match owner {
        None => Decision::Claims,
        Some(owner) if owner.is_same(here) || do_locks_reach => Decision::Works,
        Some(_) => Decision::StandsBack,
    }
}

/// This machine must not schedule, clean up or record.
#[derive(Debug, thiserror::Error)]
pub enum NotHere {
    #[error(
        "{owner} schedules, cleans up and records for this home (since {since}); its locks may not reach {here}, where you can only \
         read, trigger, wait and stop"
    )]
    Theirs { owner: String, here: String, since: UnixSeconds, path: PathBuf },
    /// It is not known which machine does.
    #[error(transparent)]
    File(#[from] FileError),
}

impl NotHere {
    /// Returns what a person can do about it.
    pub(crate) fn fix(&self) -> String {
        match self {
            Self::Theirs { owner, path, .. } => format!(
                "nothing, if {owner} stays up. To share the work, run `moadim-mcp doctor` on {owner} and here. To move it here, stop \
                 every server and janitor on {owner}, and remove {}",
                path.display()
            ),
            Self::File(_) => "make it readable, or remove it".to_owned(),
        }
    }
}

/// Makes sure that this machine may schedule, clean up and record; the first one that asks may from then on.
///
/// # Errors
/// Another one does, or nobody knows.
pub(crate) fn check(context: &Context) -> Result<(), NotHere> {
    let (home, here) = (&context.home, HomeMachine::this());
    match standing(home, &here)? {
        (_, Decision::Claims) if !uses_slurm(context) => Ok(()),
        (_, Decision::Claims) if atomic_file::write_json_once(&home.machine_file(), &here)? => {
            tracing::info!(machine = here.host, "this machine schedules and cleans up from now on");
            Ok(())
        }
        // Another process was faster. What it wrote may not be seen here yet.
        (_, Decision::Claims) => match standing(home, &here)? {
            (Some(_), _) => Ok(()),
            (None, _) => {
                let path = home.machine_file();
                Err(FileError::io("read", &path, std::io::ErrorKind::NotFound.into()).into())
            }
        },
        // It is known by more than one name, of which any may change.
        (Some(owner), Decision::Works) if owner.is_same(&here) && !owner.is_as_named(&here) => {
            Ok(atomic_file::write_json(&home.machine_file(), &HomeMachine { since: owner.since, ..here })?)
        }
        _ => Ok(()),
    }
}

/// Returns the machine that schedules, cleans up and records; `None` if none was needed yet.
///
/// # Errors
/// Another one than this does, or nobody knows.
pub(crate) fn owner(home: &Home) -> Result<Option<HomeMachine>, NotHere> {
    standing(home, &HomeMachine::this()).map(|(owner, _)| owner)
}

/// Returns the owner, and what follows for this machine unless it stands back.
fn standing(home: &Home, here: &HomeMachine) -> Result<(Option<HomeMachine>, Decision), NotHere> {
    let owner: Option<HomeMachine> = atomic_file::read_json_if_present(&home.machine_file())?;
    let reaches = |machine: &HomeMachine| machine.reach_file(home).exists();
    let do_locks_reach = owner.as_ref().is_some_and(reaches) && reaches(here);
    match (decide(owner.as_ref(), here, do_locks_reach), &owner) {
        (Decision::StandsBack, Some(owner)) => Err(NotHere::Theirs {
            owner: owner.name(),
            here: here.name(),
            since: owner.since,
            path: home.machine_file(),
        }),
        (decision, _) => Ok((owner, decision)),
    }
}

/// Notes whether a node saw a lock that this machine held.
///
/// # Errors
/// The system's.
pub(crate) fn note_reach(home: &Home, node: &str, do_locks_reach: bool) -> Result<(), FileError> {
    let here = HomeMachine::this();
    let path = here.reach_file(home);
    if do_locks_reach {
        let directory = home.locks_reach();
        home::make_directory(&directory).map_err(|source| FileError::io("make", &directory, source))?;
        return atomic_file::write_json(
            &path,
            &Reach { host: here.host, node: node.to_owned(), at: UnixSeconds::now() },
        );
    }
    atomic_file::remove_if_present(&path).map(drop)
}

/// Whether runs of this home take place on Slurm, unless nothing says so that can be read.
pub(crate) fn uses_slurm(context: &Context) -> bool {
    if context.config.engine == EngineKind::Slurm {
        return true;
    }
    let known = context.routines.known();
    if !known.summaries.is_empty() {
        return has_routine_on_slurm(&known);
    }
    match context.routines.refresh(&context.home, Look::Share) {
        Ok(known) => has_routine_on_slurm(&known),
        Err(_) => false,
    }
}

fn has_routine_on_slurm(known: &Known) -> bool {
    let mut plans = known.summaries.iter().filter_map(|summary| summary.plan().ok());
    plans.any(|plan| plan.engine == Some(EngineKind::Slurm))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::config::Config;
    use crate::run::context::App;

    fn machine(id: &str, boot: &str, host: &str) -> HomeMachine {
        HomeMachine { machine_id: id.into(), boot_id: boot.into(), host: host.into(), since: UnixSeconds(0) }
    }

    #[test]
    fn processes_of_one_kernel_are_on_one_machine_and_a_restart_changes_nothing() {
        let here = machine("id", "boot", "login1");
        for same in [machine("other", "boot", "container"), machine("id", "later", "login1"), here.clone()] {
            assert!(here.is_same(&same), "{same:?}");
        }
        for other in
            [machine("id", "b", "login2"), machine("x", "b", "login1"), machine("", "", ""), machine("id", "", "")]
        {
            assert!(!here.is_same(&other), "{other:?}");
        }
        assert!(!machine("", "", "").is_same(&machine("", "", "")), "nothing is known of either");
    }

    #[test]
    fn one_machine_works_unless_locks_reach() {
        let (here, other) = (machine("a", "1", "login1"), machine("b", "2", "login2"));
        assert_eq!(decide(None, &here, false), Decision::Claims);
        assert_eq!(decide(Some(&here), &here, false), Decision::Works);
        assert_eq!(decide(Some(&other), &here, true), Decision::Works);
        assert_eq!(decide(Some(&other), &here, false), Decision::StandsBack);
    }

    fn context(settings: &str) -> (tempfile::TempDir, Context) {
        let (dir, app) = App::example();
        std::fs::write(app.home.config_file(), format!("session_host = 'detached'\n{settings}")).unwrap();
        (dir, app.context().unwrap())
    }

    #[test]
    fn the_first_machine_has_it_until_a_person_removes_the_file() {
        let (_dir, local) = context("");
        check(&local).unwrap();
        assert!(!local.home.machine_file().exists(), "machines share a home as they always did");
        let (_dir, context) = context("engine = 'slurm'");
        check(&context).unwrap();
        let ours = HomeMachine::this();
        assert!(owner(&context.home).unwrap().unwrap().is_same(&ours));
        check(&context).unwrap();
        let before = HomeMachine { boot_id: "earlier".into(), since: UnixSeconds(1), ..ours.clone() };
        atomic_file::write_json(&context.home.machine_file(), &before).unwrap();
        check(&context).unwrap();
        let now = HomeMachine { since: UnixSeconds(1), ..ours.clone() };
        assert_eq!(owner(&context.home).unwrap(), Some(now), "also if its name changes from here on");
        let other = machine("b", "2", "login2");
        atomic_file::write_json(&context.home.machine_file(), &other).unwrap();
        let error = check(&context).unwrap_err();
        assert!(error.to_string().starts_with("login2 schedules") && error.fix().contains("machine.json"), "{error}");
        assert!(owner(&context.home).is_err());
        std::fs::remove_file(context.home.machine_file()).unwrap();
        check(&context).unwrap();
        atomic_file::write_json(&context.home.machine_file(), &other).unwrap();
        let local_again = Context { config: Config::default(), ..context.clone() };
        assert!(check(&local_again).is_err(), "its runs on Slurm may be alive");
        std::fs::write(context.home.machine_file(), "{").unwrap();
        assert!(matches!(check(&context), Err(NotHere::File(_))), "nobody works while nobody knows who does");
    }

    #[test]
    fn locks_must_reach_from_both_machines() {
        let (_dir, context) = context("engine = 'slurm'");
        let (home, other) = (&context.home, machine("b", "2", "login2"));
        atomic_file::write_json(&home.machine_file(), &other).unwrap();
        note_reach(home, "n1", true).unwrap();
        assert!(check(&context).is_err(), "the other's may not");
        std::fs::write(other.reach_file(home), "{}").unwrap();
        check(&context).unwrap();
        note_reach(home, "n1", false).unwrap();
        assert!(check(&context).is_err());
        note_reach(home, "n1", false).unwrap();
    }

    #[test]
    fn one_routine_on_slurm_is_enough() {
        let (_dir, context) = context("");
        assert!(!uses_slurm(&context));
        let routine = context.home.routines().join("r");
        std::fs::create_dir(&routine).unwrap();
        std::fs::write(routine.join("routine.toml"), "title = 'R'\nagent = 'x'\nengine = 'slurm'\n").unwrap();
        std::fs::write(routine.join("prompt.md"), "x").unwrap();
        assert!(uses_slurm(&context));
    }
}
