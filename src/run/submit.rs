//! From a claimed run to a job that waits on Slurm.

use std::ffi::OsString;
use std::time::Instant;

use super::context::Context;
use super::entry::Entry;
use super::record::{JobOrder, Manifest, SubmittedJob};
use crate::clock::UnixSeconds;
use crate::engine::slurm::{Placement, Submission, Submitted, run_job_name};
use crate::home::atomic_file;
use crate::process_tree::COOKIE_VARIABLE;
use crate::quote::saying;

/// The files of an entry for its jobs.
const SCRIPT: &str = "job.sh";
const OUTPUT: &str = "job.out";

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

/// Returns the words of a hidden command of ours about a run, for a node.
///
/// # Errors
/// Our program cannot be copied to where the nodes find it.
pub(super) fn words(context: &Context, command: &str, entry: &Entry) -> Result<Vec<OsString>, String> {
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

/// Returns the end of what a job printed into a file of the entry.
pub(super) fn said_in(entry: &Entry, file: &str) -> String {
    const SHOWN_CHARS: usize = 300;
    let said = atomic_file::read(&entry.file(file), atomic_file::MAX_RECORD_BYTES);
    saying(String::from_utf8_lossy(&said.unwrap_or_default()).trim(), SHOWN_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
