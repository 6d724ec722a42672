//! From a claimed run to a job that waits on Slurm, and the job that looks for what is left of a run on its node.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use super::context::Context;
use super::entry::Entry;
use super::record::{JobOrder, Manifest, SubmittedJob};
use crate::clock::UnixSeconds;
use crate::engine::slurm::{Placement, Submission, Submitted, check_job_name, run_job_name};
use crate::home::atomic_file;
use crate::process_tree::COOKIE_VARIABLE;
use crate::quote::saying;
use crate::routine::resources::Resources;

/// The files of an entry for its jobs.
const SCRIPT: &str = "job.sh";
const OUTPUT: &str = "job.out";
const CHECK_SCRIPT: &str = "check.sh";
const CHECK_OUTPUT: &str = "check.out";

/// How much longer than its bound and grace Slurm lets a run go on: the supervisor ends it, and Slurm only where that is stuck.
const LIMIT_ALLOWANCE_SECS: u64 = 120;

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
    let bound = manifest.max_runtime_secs.unwrap_or(context.config.max_runtime_ceiling_secs);
    let secs = bound.saturating_add(context.config.kill_grace_secs + LIMIT_ALLOWANCE_SECS);
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
        minutes: secs.div_ceil(60),
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

/// Submits a job that ends what is left of a run on its node, and attests there that nothing is.
///
/// # Errors
/// Slurm refused it, or was not asked. Where Slurm did not confirm it, the next look tells.
pub fn submit_check(context: &Context, entry: &Entry, order: &JobOrder, node: &str) -> Result<(), String> {
    let script = entry.file(CHECK_SCRIPT);
    // The last one attested nothing.
    if submitted_check(entry).is_some() {
        let _ = std::fs::remove_file(&script);
    }
    // Of several processes one does it.
    if !atomic_file::write_once(&script, b"").map_err(|error| error.to_string())? {
        return Ok(());
    }
    let submission = Submission {
        name: check_job_name(&entry.id().to_string()),
        token: &order.token,
        words: &words(context, "check-left", entry)?,
        variable: None,
        script: &script,
        output: &entry.file(CHECK_OUTPUT),
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

/// Returns how long ago a check was submitted last; `None` if none was. A file server's clock may be ahead.
pub fn submitted_check(entry: &Entry) -> Option<Duration> {
    let submitted = entry.file(CHECK_SCRIPT).metadata().ok()?.modified().ok()?;
    Some(submitted.elapsed().unwrap_or_default())
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

/// Returns the end of what the last check of a run printed.
pub(super) fn said_by_check(entry: &Entry) -> String {
    said_in(entry, CHECK_OUTPUT)
}

fn said_in(entry: &Entry, file: &str) -> String {
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
