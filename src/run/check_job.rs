//! The job that looks on a node for what is left of a run, ends it, and attests there that nothing is: on this machine, its submission.

use std::time::{Duration, Instant};

use super::context::Context;
use super::entry::Entry;
use super::id::RunId;
use super::record::JobOrder;
use super::submit::{said_in, words};
use crate::engine::slurm::{Placement, Submission, Submitted, check_job_name};
use crate::home::atomic_file::{self, FileError};
use crate::home::names;
use crate::routine::resources::Resources;

/// How long it may take.
const MINUTES: u64 = 5;

/// How long its submission may take.
const SUBMISSION_TIMEOUT: Duration = Duration::from_secs(3);

/// What it asks for: it lists processes, and ends some.
const RESOURCES: Resources =
    Resources { cpus: Some(1), memory_mib: Some(64), gpus: None, partition: None, constraint: None };

/// How long after the first check of a run the second may follow, if that attested nothing; each pause is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(10 * 60);

/// A check of a run. They are numbered from 1, so that each has files of its own, and of several processes one submits it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckJob(u64);

/// Returns the check that a run may have now; `None` as long as the newest is too young. Two processes that saw the same one get the
/// same.
pub fn due_check(entry: &Entry) -> Option<CheckJob> {
    match newest(entry) {
        None => Some(CheckJob(1)),
        Some((check, age)) => (age >= check.pause()).then_some(CheckJob(check.0.saturating_add(1))),
    }
}

/// Whether a check of a run was ever submitted.
pub fn was_checked(entry: &Entry) -> bool {
    newest(entry).is_some()
}

/// Returns the end of what the newest check of a run printed.
pub(super) fn said_by_check(entry: &Entry) -> String {
    newest(entry).map_or_else(String::new, |(check, _)| said_in(entry, &check.output()))
}

/// Takes a check out of the queue that is not needed any more. That takes seconds where Slurm is slow: no lock of the run is held.
pub fn withdraw_check(context: &Context, run: &RunId) {
    if let Err(error) = context.slurm().withdraw(&check_job_name(&run.to_string())) {
        tracing::warn!(%run, %error, "cannot cancel a check job that is no longer needed");
    }
}

impl CheckJob {
    /// Submits it, unless another process does.
    ///
    /// # Errors
    /// Slurm refused it, or was not asked. Where Slurm did not confirm it, the next look tells.
    pub fn submit(self, context: &Context, entry: &Entry, order: &JobOrder, node: &str) -> Result<(), String> {
        if !self.claim(entry).map_err(|error| error.to_string())? {
            return Ok(());
        }
        let submission = Submission {
            name: check_job_name(&entry.id().to_string()),
            token: &order.token,
            words: &words(context, "check-left", entry)?,
            variable: None,
            script: &entry.file(&self.script()),
            output: &entry.file(&self.output()),
            directory: context.home.root(),
            resources: &Resources { partition: order.resources.partition.clone(), ..RESOURCES },
            arguments: &for_checks(&context.config.slurm_args),
            placement: Placement::On(node),
            minutes: MINUTES,
        };
        match context.slurm().submit(&submission, Instant::now() + SUBMISSION_TIMEOUT) {
            Submitted::Accepted(_) | Submitted::Unconfirmed(_) => Ok(()),
            Submitted::Refused(reason) | Submitted::NotSent(reason) => Err(reason),
        }
    }

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

    /// Returns how old it must be before the next one.
    fn pause(self) -> Duration {
        let doublings = self.0.saturating_sub(1).min(16) as u32;
        FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE)
    }

    /// Takes this number for the caller, unless another process has it; returns whether the caller has it. Of older checks, the files of
    /// the last stay: a process that was stopped may be about to take its number.
    fn claim(self, entry: &Entry) -> Result<bool, FileError> {
        let has_it = atomic_file::write_once(&entry.file(&self.script()), b"")?;
        if let Some(old) = self.0.checked_sub(2).map(Self).filter(|_| has_it) {
            for file in [old.script(), old.output()] {
                let _ = std::fs::remove_file(entry.file(&file));
            }
        }
        Ok(has_it)
    }
}

/// Returns those of a person's arguments that a check needs: the others may keep it waiting.
fn for_checks(arguments: &[String]) -> Vec<String> {
    const NEEDED: [&str; 4] = ["--account", "--qos", "--reservation", "--wckey"];
    let is_needed = |argument: &&String| NEEDED.iter().any(|needed| argument.starts_with(needed));
    arguments.iter().filter(is_needed).cloned().collect()
}

/// Returns the newest check of a run, and its age.
fn newest(entry: &Entry) -> Option<(CheckJob, Duration)> {
    let mut newest = None;
    // An entry that is gone, or cannot be listed, has none, and no script can be made in it either.
    let _ = names::scan(entry.directory(), |name, _| {
        newest = newest.max(CheckJob::of_script(name).map(|check| check.0));
    });
    let check = CheckJob(newest?);
    let submitted = entry.file(&check.script()).metadata().and_then(|script| script.modified());
    // A file server's clock may be ahead.
    Some((check, submitted.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use std::time::SystemTime;

    fn entry() -> (tempfile::TempDir, Entry) {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path().join("home")).unwrap();
        let entry = Entry::of(&home, &"a-1780000000".parse().unwrap());
        std::fs::create_dir_all(entry.directory()).unwrap();
        (directory, entry)
    }

    fn make_older(entry: &Entry, check: CheckJob, age: Duration) {
        let script = std::fs::File::open(entry.file(&check.script())).unwrap();
        script.set_modified(SystemTime::now() - age).unwrap();
    }

    #[test]
    fn of_many_who_would_submit_the_next_check_one_does() {
        let (_directory, entry) = entry();
        for number in 1..=12 {
            let won: usize = std::thread::scope(|scope| {
                let elect = || due_check(&entry).is_some_and(|due| due.claim(&entry).unwrap());
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(elect)).collect();
                threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
            });
            assert_eq!((won, newest(&entry).unwrap().0), (1, CheckJob(number)));
            assert_eq!(due_check(&entry), None);
            make_older(&entry, CheckJob(number), LONGEST_PAUSE);
        }
        let left = std::fs::read_dir(entry.directory()).unwrap().count();
        assert_eq!(left, 2, "they do not pile up");
    }

    #[test]
    fn each_pause_is_twice_the_one_before_up_to_ten_minutes() {
        let secs = |number| CheckJob(number).pause().as_secs();
        assert_eq!([1, 2, 3, 4, 7, 8, u64::MAX].map(secs), [5, 10, 20, 40, 320, 600, 600]);
        let (_directory, entry) = entry();
        assert_eq!((was_checked(&entry), due_check(&entry)), (false, Some(CheckJob(1))));
        CheckJob(3).claim(&entry).unwrap();
        assert!(was_checked(&entry));
        make_older(&entry, CheckJob(3), Duration::from_secs(15));
        assert_eq!(due_check(&entry), None);
        make_older(&entry, CheckJob(3), Duration::from_secs(20));
        assert_eq!(due_check(&entry), Some(CheckJob(4)));
    }

    #[test]
    fn one_that_looked_before_another_submitted_its_check_leaves_that_alone() {
        let (_directory, entry) = entry();
        assert!(CheckJob(1).claim(&entry).unwrap());
        make_older(&entry, CheckJob(1), LONGEST_PAUSE);
        let slow = due_check(&entry).unwrap();
        assert!(due_check(&entry).unwrap().claim(&entry).unwrap());
        atomic_file::write(&entry.file(&CheckJob(2).script()), b"exec it").unwrap();
        assert!(!slow.claim(&entry).unwrap());
        assert_eq!(std::fs::read(entry.file(&CheckJob(2).script())).unwrap(), b"exec it");
    }

    #[test]
    fn what_the_newest_check_printed_is_said() {
        let (_directory, entry) = entry();
        assert_eq!(said_by_check(&entry), "");
        for (number, said) in [(2, "old"), (10, "new"), (9, "older")] {
            CheckJob(number).claim(&entry).unwrap();
            std::fs::write(entry.file(&CheckJob(number).output()), said).unwrap();
        }
        assert!(said_by_check(&entry).contains("new"), "{}", said_by_check(&entry));
        // It has not begun to print.
        CheckJob(11).claim(&entry).unwrap();
        assert_eq!(said_by_check(&entry), "");
    }
}
