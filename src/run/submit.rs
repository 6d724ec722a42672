//! From a claimed run to a job that waits on Slurm, and the job that looks for what is left of a run on its node.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use super::context::Context;
use super::entry::Entry;
use super::id::RunId;
use super::record::{JobOrder, Manifest, SubmittedJob};
use crate::clock::UnixSeconds;
use crate::engine::slurm::{Submission, Submitted, check_job_name, run_job_name};
use crate::home::atomic_file;
use crate::process_tree::COOKIE_VARIABLE;
use crate::quote::saying;
use crate::routine::resources::Resources;

/// The files of an entry for its jobs.
const SCRIPT: &str = "job.sh";
const OUTPUT: &str = "job.out";
const CHECK_SCRIPT: &str = "check.sh";
const CHECK_OUTPUT: &str = "check.out";

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
        node: None,
        excluded: &order.excluded,
        minutes: order.limit_secs.div_ceil(60),
    };
    let at = UnixSeconds::now();
    let submitted = match context.slurm().submit(&submission, deadline) {
        // Where that leaves no node, the one that failed is better than none.
        Submitted::Refused(_) if !order.excluded.is_empty() => {
            context.slurm().submit(&Submission { excluded: &[], ..submission }, deadline)
        }
        submitted => submitted,
    };
    match submitted {
        Submitted::Taken(job) => entry.set_job(&SubmittedJob { job: Some(job), at, problem: None }),
        Submitted::Unsure(problem) => {
            tracing::warn!(run = %entry.id(), problem, "Slurm did not confirm the run's job; it is looked for");
            entry.set_job(&SubmittedJob { job: None, at, problem: Some(problem) });
        }
        Submitted::Refused(reason) => return Err(format!("Slurm did not take it: {reason}")),
    }
    Ok(())
}

/// Submits a job that ends what is left of a run on its node, and attests there that nothing is.
///
/// # Errors
/// Slurm refused it. Where it is unsure, the next look tells.
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
        node: Some(node),
        excluded: &[],
        minutes: CHECK_MINUTES,
    };
    match context.slurm().submit(&submission, Instant::now() + CHECK_TIMEOUT) {
        Submitted::Taken(_) | Submitted::Unsure(_) => Ok(()),
        Submitted::Refused(reason) => Err(reason),
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

/// Returns the end of what the last check of a run printed.
pub(super) fn said_by_check(entry: &Entry) -> String {
    said_in(entry, CHECK_OUTPUT)
}

fn said_in(entry: &Entry, file: &str) -> String {
    const SHOWN_CHARS: usize = 300;
    let said = atomic_file::read(&entry.file(file), atomic_file::MAX_RECORD_BYTES);
    saying(String::from_utf8_lossy(&said.unwrap_or_default()).trim(), SHOWN_CHARS)
}
