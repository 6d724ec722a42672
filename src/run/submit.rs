//! From a claimed run to a job that waits on Slurm, and the job that looks for what is left of a run on its node.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use super::context::Context;
use super::entry::Entry;
use super::id::RunId;
use super::record::{JobOrder, Manifest, SubmittedJob};
use crate::clock::UnixSeconds;
use crate::engine::slurm::{Placement, Submission, Submitted, check_job_name, run_job_name};
use crate::home::atomic_file::{self, FileError};
use crate::home::names;
use crate::process_tree::COOKIE_VARIABLE;
use crate::quote::saying;
use crate::routine::resources::Resources;

/// The files of an entry for its jobs.
const SCRIPT: &str = "job.sh";
const OUTPUT: &str = "job.out";

/// How long a check may take.
const CHECK_MINUTES: u64 = 5;

/// How long its submission may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// What a check asks for: it lists processes, and ends some.
const CHECK_RESOURCES: Resources =
    Resources { cpus: Some(1), memory_mib: Some(64), gpus: None, partition: None, constraint: None };

/// Submits a claimed run, once. Where Slurm gives no clear answer, its name and its token tell later.
///
/// # Errors
/// Why Slurm does not have it.
pub(super) fn submit(
    context: &Context,
    entry: &Entry,
    manifest: &Manifest,
    order: &JobOrder,
    deadline: Instant,
) -> Result<(), String> {
    let home = context.home.root();
    let words = words(context, "supervise", entry)?;
    let submission = Submission {
        name: run_job_name(&entry.id().to_string()),
        token: &order.token,
        words: &words,
        variable: Some((COOKIE_VARIABLE, manifest.cookie.to_string())),
        script: &entry.file(SCRIPT),
        output: &entry.file(OUTPUT),
        directory: home,
        resources: &order.resources,
        arguments: &context.config.slurm_args,
        placement: Placement::Anywhere,
        minutes: order.limit_secs.div_ceil(60),
    };
    let at = UnixSeconds::now();
    let slurm = context.slurm();
    let submit = |placement| slurm.submit(&Submission { placement, ..submission.clone() }, deadline);
    match off_failed_nodes(&order.excluded, submit) {
        Submitted::Accepted(job) => entry.set_job(&SubmittedJob { job: Some(job), at, problem: None }),
        Submitted::Unconfirmed(problem) => {
            tracing::warn!(run = %entry.id(), problem, "Slurm did not confirm the job; looking for it by name");
            entry.set_job(&SubmittedJob { job: None, at, problem: Some(problem) });
        }
        Submitted::Refused(reason) | Submitted::NotSent(reason) => {
            return Err(format!("cannot submit its job: {reason}"));
        }
    }
    Ok(())
}

/// Submits a run off the nodes that failed its earlier attempts. If Slurm refuses that, it may leave no node, and then one that failed
/// is better than none.
fn off_failed_nodes<'a>(failed: &'a [String], mut submit: impl FnMut(Placement<'a>) -> Submitted) -> Submitted {
    if failed.is_empty() {
        return submit(Placement::Anywhere);
    }
    match submit(Placement::Not(failed)) {
        Submitted::Refused(_) => submit(Placement::Anywhere),
        submitted => submitted,
    }
}

/// Submits a job that ends what is left of a run on its node, and attests there that nothing is. While the newest check is younger than
/// `pause`, nothing is done; of several processes one submits it.
///
/// # Errors
/// Slurm refused it, or was not asked. Where Slurm did not confirm it, the next look tells.
pub fn submit_check(
    context: &Context,
    entry: &Entry,
    order: &JobOrder,
    node: &str,
    pause: Duration,
) -> Result<(), String> {
    let Some(check) = newest_check(entry).next_after(pause) else { return Ok(()) };
    if !check.claim(entry).map_err(|error| error.to_string())? {
        return Ok(());
    }
    let submission = Submission {
        name: check_job_name(&entry.id().to_string()),
        token: &order.token,
        words: &words(context, "check-left", entry)?,
        variable: None,
        script: &entry.file(&check.script()),
        output: &entry.file(&check.output()),
        directory: context.home.root(),
        resources: &Resources { partition: order.resources.partition.clone(), ..CHECK_RESOURCES },
        arguments: &for_checks(&context.config.slurm_args),
        placement: Placement::On(node),
        minutes: CHECK_MINUTES,
    };
    match context.slurm().submit(&submission, Instant::now() + CHECK_TIMEOUT) {
        Submitted::Accepted(_) | Submitted::Unconfirmed(_) => Ok(()),
        Submitted::Refused(reason) | Submitted::NotSent(reason) => Err(reason),
    }
}

/// Returns those of a person's arguments that a check needs: the others may keep it waiting.
fn for_checks(arguments: &[String]) -> Vec<String> {
    const NEEDED: [&str; 3] = ["--account", "--qos", "--reservation"];
    let is_needed = |argument: &&String| NEEDED.iter().any(|needed| argument.starts_with(needed));
    arguments.iter().filter(is_needed).cloned().collect()
}

/// The checks of a run are numbered from 1, so that each has files of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Check(u64);

impl Check {
    fn script(self) -> String {
        format!("check.{}.sh", self.0)
    }

    fn output(self) -> String {
        format!("check.{}.out", self.0)
    }

    /// Reads the name of a script.
    fn of_script(name: &str) -> Option<Self> {
        name.strip_prefix("check.")?.strip_suffix(".sh")?.parse().ok().map(Self)
    }

    /// Takes this number for the caller, unless another process has it; returns whether the caller has it. Of older checks, the files of
    /// the last stay: a process that was stopped may be about to take its number.
    fn claim(self, entry: &Entry) -> Result<bool, FileError> {
        let has_it = atomic_file::write_once(&entry.file(&self.script()), b"")?;
        if let Some(old) = self.0.checked_sub(2).map(Check).filter(|_| has_it) {
            for file in [old.script(), old.output()] {
                let _ = std::fs::remove_file(entry.file(&file));
            }
        }
        Ok(has_it)
    }
}

/// The newest check of a run and its age, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Newest(Option<(Check, Duration)>);

impl Newest {
    /// Returns the check that may follow it; `None` as long as it is younger than `pause`. Two processes that saw the same one name the
    /// same.
    fn next_after(self, pause: Duration) -> Option<Check> {
        match self.0 {
            Some((_, age)) if age < pause => None,
            Some((Check(number), _)) => Some(Check(number.saturating_add(1))),
            None => Some(Check(1)),
        }
    }
}

fn newest_check(entry: &Entry) -> Newest {
    let mut newest = None;
    // An entry that is gone, or cannot be listed, has none, and no script can be made in it either.
    let _ = names::scan(entry.directory(), |name, _| {
        newest = newest.max(Check::of_script(name).map(|check| check.0));
    });
    Newest(newest.map(|number| {
        let submitted = entry.file(&Check(number).script()).metadata().and_then(|script| script.modified());
        // A file server's clock may be ahead.
        let age = submitted.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
        (Check(number), age)
    }))
}

/// Returns how long ago the newest check was submitted; `None` if none was.
pub fn submitted_check(entry: &Entry) -> Option<Duration> {
    newest_check(entry).0.map(|(_, age)| age)
}

/// Takes a check out of the queue that is not needed any more. That takes seconds where Slurm is slow: no lock of the run is held.
pub fn withdraw_check(context: &Context, run: &RunId) {
    if let Err(error) = context.slurm().withdraw(&check_job_name(&run.to_string())) {
        tracing::warn!(%run, %error, "cannot cancel a check job that is no longer needed");
    }
}

/// Returns the words of a hidden command of ours about a run, for a node.
fn words(context: &Context, command: &str, entry: &Entry) -> Result<Vec<OsString>, String> {
    let home = context.home.root();
    let program = context.slurm().place_program(context.program.path(), &context.home);
    let program = program.map_err(|error| {
        format!("cannot copy {} into the home, where the nodes find it: {error}", context.program.path().display())
    })?;
    Ok(vec![program.into(), command.into(), home.into(), entry.id().to_string().into()])
}

/// Returns the end of what a run's job printed itself, such as that our program is not on its node; mostly nothing.
pub(super) fn said_by_job(entry: &Entry) -> String {
    said_in(entry, OUTPUT)
}

/// Returns the end of what the newest check of a run printed.
pub(super) fn said_by_check(entry: &Entry) -> String {
    newest_check(entry).0.map_or_else(String::new, |(check, _)| said_in(entry, &check.output()))
}

fn said_in(entry: &Entry, file: &str) -> String {
    const SHOWN_CHARS: usize = 300;
    let said = atomic_file::read(&entry.file(file), atomic_file::MAX_RECORD_BYTES);
    saying(String::from_utf8_lossy(&said.unwrap_or_default()).trim(), SHOWN_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use std::time::SystemTime;

    #[test]
    fn only_a_refusal_is_submitted_again_without_the_exclusion() {
        let failed = ["n1".to_owned()];
        let submit = |answer: Submitted| {
            let mut placements = Vec::new();
            let submitted = off_failed_nodes(&failed, |placement| {
                placements.push(placement == Placement::Anywhere);
                if placements.len() == 1 { answer.clone() } else { Submitted::Accepted("2".to_owned()) }
            });
            (placements, submitted)
        };
        let again = (vec![false, true], Submitted::Accepted("2".to_owned()));
        assert_eq!(submit(Submitted::Refused("no node".to_owned())), again);
        for answer in [
            Submitted::Accepted("1".to_owned()),
            Submitted::NotSent("no sbatch".to_owned()),
            Submitted::Unconfirmed("timed out".to_owned()),
        ] {
            assert_eq!(submit(answer.clone()), (vec![false], answer));
        }
        let mut placements = Vec::new();
        off_failed_nodes(&[], |placement| {
            placements.push(placement == Placement::Anywhere);
            Submitted::Refused("no".to_owned())
        });
        assert_eq!(placements, [true], "nothing was excluded");
    }

    const PAUSE: Duration = Duration::from_secs(600);

    fn entry() -> (tempfile::TempDir, Entry) {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path().join("home")).unwrap();
        let entry = Entry::of(&home, &"a-1780000000".parse().unwrap());
        std::fs::create_dir_all(entry.directory()).unwrap();
        (directory, entry)
    }

    fn make_older(entry: &Entry, check: Check) {
        let script = std::fs::File::open(entry.file(&check.script())).unwrap();
        script.set_modified(SystemTime::now() - 2 * PAUSE).unwrap();
    }

    #[test]
    fn of_many_who_would_submit_the_next_check_one_does() {
        let (_directory, entry) = entry();
        for number in 1..=12 {
            let won: usize = std::thread::scope(|scope| {
                let elect = || newest_check(&entry).next_after(PAUSE).is_some_and(|next| next.claim(&entry).unwrap());
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(elect)).collect();
                threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
            });
            assert_eq!((won, newest_check(&entry).0.unwrap().0), (1, Check(number)));
            assert!(submitted_check(&entry).unwrap() < PAUSE);
            make_older(&entry, Check(number));
            assert!(submitted_check(&entry).unwrap() >= PAUSE);
        }
        let left = std::fs::read_dir(entry.directory()).unwrap().count();
        assert_eq!(left, 2, "they do not pile up");
    }

    #[test]
    fn one_that_looked_before_another_submitted_its_check_leaves_that_alone() {
        let (_directory, entry) = entry();
        assert!(Check(1).claim(&entry).unwrap());
        make_older(&entry, Check(1));
        let slow = newest_check(&entry).next_after(PAUSE).unwrap();
        assert!(newest_check(&entry).next_after(PAUSE).unwrap().claim(&entry).unwrap());
        atomic_file::write(&entry.file(&Check(2).script()), b"exec it").unwrap();
        assert!(!slow.claim(&entry).unwrap());
        assert_eq!(std::fs::read(entry.file(&Check(2).script())).unwrap(), b"exec it");
    }

    #[test]
    fn what_the_newest_check_printed_is_said() {
        let (_directory, entry) = entry();
        assert_eq!((submitted_check(&entry), said_by_check(&entry)), (None, String::new()));
        for (number, said) in [(2, "old"), (10, "new"), (9, "older")] {
            Check(number).claim(&entry).unwrap();
            std::fs::write(entry.file(&Check(number).output()), said).unwrap();
        }
        assert!(said_by_check(&entry).contains("new"), "{}", said_by_check(&entry));
        // It has not begun to print.
        Check(11).claim(&entry).unwrap();
        assert_eq!(said_by_check(&entry), "");
    }
}
