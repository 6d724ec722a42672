//! The janitor: ends hung runs, removes expired workbenches and starts scheduled runs, in the background.
//!
//! Each of its three loops makes a pass and pauses, on a thread of its own. What to do is decided by pure functions (`plan`,
//! and `decide` of the watchdog and the scheduler) over what a pass has read; the other modules read and act.

mod attention;
pub(crate) mod checks;
pub mod cleanup;
mod clock_doubt;
pub(crate) mod health;
pub(crate) mod heartbeat;
mod inventory;
mod peers;
pub(crate) mod plan;
pub(crate) mod probe;
mod questions;
pub mod reason;
pub(crate) mod registration;
pub mod remove;
pub mod report;
mod scheduler;
mod stale_files;
pub(crate) mod stores;
pub mod sweep;
pub(crate) mod sweep_lock;
pub mod trash;
pub(crate) mod unsaved;
pub mod watchdog;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::UnixSeconds;
use crate::home::UnsafeHome;
use crate::home::atomic_file::FileError;
use crate::process_tree::ScanError;
use crate::routine::known::Look;
use crate::run::context::{App, Context};
use crate::run::home_machine::{self, NotHere};
use crate::run::id::RunId;
use crate::run::janitor_status::{Duty, JanitorStatus};
use sweep_lock::SweepLockError;

pub(crate) use sweep::archive_all;

/// A pass did not take place.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The home is not safe for it.
    #[error(transparent)]
    UnsafeHome(#[from] UnsafeHome),
    /// A folder of the home cannot be listed.
    #[error(transparent)]
    File(#[from] FileError),
    /// Processes cannot be listed, so nothing may be removed.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Another process is sweeping, or the sweep lock cannot be taken.
    #[error(transparent)]
    SweepLock(#[from] SweepLockError),
    /// It is another machine's.
    #[error("{0}; {fix}", fix = .0.fix())]
    NotHere(#[from] NotHere),
}

/// Makes a pass, and returns the pause after it.
type Pass = fn(&Context, &JanitorStatus) -> Duration;

/// Starts the loops, which end with the process. Their threads exist from now on: an agent may use up all threads, and then
/// the watchdog is needed most.
pub fn start(app: &Arc<App>) {
    let loops: [(Duty, Pass); 3] = [(Duty::Watchdog, watch), (Duty::Sweep, sweep), (Duty::Schedule, fire)];
    for (duty, pass) in loops {
        let for_thread = Arc::clone(app);
        let thread = std::thread::Builder::new().name("janitor".into());
        if let Err(error) = thread.spawn(move || repeat(&for_thread, duty, pass)) {
            app.janitor.trouble(duty, None, &error);
        }
    }
}

/// The pause after a pass that panicked.
const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(60);

fn repeat(app: &App, duty: Duty, pass: Pass) {
    loop {
        // Those that the pass leaves cannot be recorded now.
        let known = if duty == Duty::Watchdog { watchdog::ended_elsewhere(&app.home) } else { Vec::new() };
        // Passes share only what is behind locks, and a bug in one must not stop the janitor.
        let pause = catch_unwind(AssertUnwindSafe(|| one_pass(app, duty, pass))).unwrap_or(PAUSE_AFTER_PANIC);
        app.janitor.passed(duty, pause);
        rest(app, duty, pause, &known);
    }
}

/// How soon the end of a run on another machine is recorded.
const LOOK_FOR_ENDS: Duration = Duration::from_secs(1);

/// Waits for the next pass. The watchdog's comes early for a run that ended on another machine, which cannot record it itself, and was
/// not known to before the last pass.
fn rest(app: &App, duty: Duty, pause: Duration, known: &[RunId]) {
    let until = Instant::now() + pause;
    loop {
        let rest = until.saturating_duration_since(Instant::now());
        if duty != Duty::Watchdog || rest < LOOK_FOR_ENDS {
            return std::thread::sleep(rest);
        }
        std::thread::sleep(LOOK_FOR_ENDS);
        if watchdog::ended_elsewhere(&app.home).iter().any(|run| !known.contains(run)) {
            return;
        }
    }
}

/// The pause while the settings, or whose duty it is, cannot be read.
const PAUSE_WITHOUT_PASS: Duration = Duration::from_secs(30);

/// The pause while another machine does all of it.
const PAUSE_WHILE_STANDING_BACK: Duration = Duration::from_secs(5);

fn one_pass(app: &App, duty: Duty, pass: Pass) -> Duration {
    let status = &app.janitor;
    status.begin(duty);
    match app.context() {
        Ok(context) => match home_machine::check(&context) {
            Ok(()) => pass(&context, status),
            // `health` says so by itself.
            Err(error @ NotHere::Theirs { .. }) => {
                status.stands_back(&error);
                // The scheduler does it otherwise.
                let _ = context.routines.refresh(&context.home, Look::Share);
                PAUSE_WHILE_STANDING_BACK
            }
            Err(NotHere::File(error)) => {
                status.trouble(duty, Some(app.home.machine_file().display().to_string()), &error);
                PAUSE_WITHOUT_PASS
            }
        },
        // The defaults may be shorter than what a person wrote, so nothing is ended, removed or started.
        Err(error) => {
            status.trouble(duty, Some(app.home.config_file().display().to_string()), &error);
            PAUSE_WITHOUT_PASS
        }
    }
}

fn watch(context: &Context, status: &JanitorStatus) -> Duration {
    match watchdog::pass(context, None) {
        Ok(report) => {
            for killed in &report.killed {
                tracing::info!(run = %killed.run, reason = killed.reason, "ended");
            }
            for failed in report.failed {
                status.trouble(Duty::Watchdog, Some(failed.path), &failed.error);
            }
            look_after_questions(context, status);
            if let Err(error) = attention::call_for(context, status, &report.unknown) {
                status.trouble(Duty::Watchdog, None, &error);
            }
        }
        Err(error) => status.trouble(Duty::Watchdog, None, &error),
    }
    Duration::from_secs(context.config.watchdog_interval_secs)
}

fn look_after_questions(context: &Context, status: &JanitorStatus) {
    match questions::pass(context) {
        Ok(failed) => {
            for (run, error) in failed {
                let path = context.home.questions().join(format!("{run}.json"));
                status.trouble(Duty::Watchdog, Some(path.display().to_string()), &error);
            }
        }
        Err(error) => status.trouble(Duty::Watchdog, None, &error),
    }
}

/// The pause after a tick that failed.
const PAUSE_AFTER_FAILED_TICK: Duration = Duration::from_secs(5);

fn fire(context: &Context, status: &JanitorStatus) -> Duration {
    let now = scheduler::time::now();
    match scheduler::tick(context, now) {
        Ok(report) => {
            for (path, error) in report.failed {
                status.trouble(Duty::Schedule, Some(path), &error);
            }
            if let Err(error) = heartbeat::beat(context, status, now) {
                status.trouble(Duty::Schedule, None, &error);
            }
            scheduler::time::pause(report.pause)
        }
        Err(error) => {
            status.trouble(Duty::Schedule, None, &error);
            PAUSE_AFTER_FAILED_TICK
        }
    }
}

/// How long a sweep in the background deletes; emptying the trash does the rest.
const BACKGROUND_DELETING_TIMEOUT: Duration = Duration::from_secs(60 * 60);

fn sweep(context: &Context, status: &JanitorStatus) -> Duration {
    let mut may_tidy = false;
    match sweep::sweep(context, None, Instant::now() + BACKGROUND_DELETING_TIMEOUT, &mut |_| {}) {
        Ok(report) => {
            for removed in &report.removed {
                tracing::info!(run = %removed.run, reason = %removed.reason, bytes = removed.bytes, "removed");
            }
            for failed in report.failed {
                status.trouble(Duty::Sweep, Some(failed.path), &failed.error);
            }
            // The note is a clock that may have been set: nothing goes by its age then.
            may_tidy = report.note.is_none();
            if let Some(note) = report.note {
                status.trouble(Duty::Sweep, None, &note);
            }
        }
        // Another process does our work.
        Err(PassError::SweepLock(SweepLockError::Held(_))) => {}
        Err(error) => status.trouble(Duty::Sweep, None, &error),
    }
    match trash::empty(&context.home) {
        Ok(()) | Err(PassError::SweepLock(SweepLockError::Held(_))) => {}
        Err(error) => status.trouble(Duty::Sweep, Some(context.home.trash().display().to_string()), &error),
    }
    if may_tidy && let Err(error) = stores::tidy(context) {
        status.trouble(Duty::Sweep, None, &error);
    }
    for error in stale_files::remove(&context.home, UnixSeconds::now()) {
        status.trouble(Duty::Sweep, None, &error);
    }
    Duration::from_secs(context.config.cleanup_interval_secs)
}
