//! The janitor: the background task that ends hung runs, removes expired workbenches, and fires routines on their schedule.
//!
//! Three loops, each a pass and a pause, a pass on a thread of its own; the passes themselves are synchronous and know no clock but the one they
//! read. `plan` and the watchdog's `decide` are pure, the rest are their effects.

pub mod cleanup;
pub mod clock_doubt;
pub mod company;
pub mod doctor;
pub mod evidence;
pub mod extent;
pub mod forget;
pub mod health;
pub mod leftovers;
pub mod locks;
pub mod plan;
pub mod registration;
pub mod remove;
pub mod scheduler;
pub mod status;
pub mod sweep;
pub mod trash;
pub mod turn;
pub mod watchdog;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::clock::UnixSeconds;
use crate::run::context::{App, Context};
use status::{Duty, Status};
use sweep::SweepError;
use trash::TrashError;
use turn::TurnError;

/// Runs the loops until it is dropped: the watchdog, the sweep, which makes its first pass at once, and the scheduler.
pub async fn run(app: Arc<App>, status: Arc<Status>) {
    let watchdog = repeat(Arc::clone(&app), Arc::clone(&status), Duty::Watchdog, watch);
    let sweep = repeat(Arc::clone(&app), Arc::clone(&status), Duty::Sweep, sweep);
    let scheduler = repeat(app, status, Duty::Schedule, fire);
    tokio::join!(watchdog, sweep, scheduler);
}

/// A pass over the home: what is wrong goes into the status, and the pause after it is returned.
trait Pass: Fn(&Context, &Status) -> Duration + Send + 'static {}
impl<F: Fn(&Context, &Status) -> Duration + Send + 'static> Pass for F {}

async fn repeat(app: Arc<App>, status: Arc<Status>, duty: Duty, pass: impl Pass) {
    let report = Arc::clone(&status);
    let worker = Worker::start(move || one_pass(&app, &report, duty, &pass));
    loop {
        let pause = match &worker {
            Ok(worker) => worker.pass().await,
            Err(error) => {
                status.trouble(duty, None, error);
                return;
            }
        };
        status.passed(duty, pause);
        tokio::time::sleep(pause).await;
    }
}

/// The pause after a pass for which the settings could not be read.
const UNTIL_MENDED: Duration = Duration::from_secs(30);

/// Makes a pass, and returns the pause after it.
fn one_pass(app: &App, status: &Status, duty: Duty, pass: &impl Pass) -> Duration {
    status.begin(duty);
    match app.context() {
        Ok(context) => pass(&context, status),
        // Settings that cannot be read stop ending, reaping and firing: no default may be shorter than what a person wrote.
        Err(error) => {
            status.trouble(duty, Some(app.home().config_file().display().to_string()), &error);
            UNTIL_MENDED
        }
    }
}

/// A thread of its own for each loop, made at the start: when an agent's children have eaten up all the threads that the
/// system has, a pool has none to give, and that is when the watchdog is needed.
struct Worker {
    asked: mpsc::Sender<oneshot::Sender<Duration>>,
}

impl Worker {
    fn start(pass: impl Fn() -> Duration + Send + 'static) -> std::io::Result<Self> {
        let (asked, passes) = mpsc::channel::<oneshot::Sender<Duration>>();
        std::thread::Builder::new().name("janitor".into()).spawn(move || {
            for done in passes {
                // What a pass shares with others is behind locks, and a panic must not be the end of the janitor.
                let pause = catch_unwind(AssertUnwindSafe(&pass)).unwrap_or(AFTER_A_PANIC);
                let _ = done.send(pause);
            }
        })?;
        Ok(Self { asked })
    }

    async fn pass(&self) -> Duration {
        let (sender, done) = oneshot::channel();
        let _ = self.asked.send(sender);
        done.await.unwrap_or(AFTER_A_PANIC)
    }
}

/// The pause after a pass that panicked, which is a fault of ours and may be one for good.
const AFTER_A_PANIC: Duration = Duration::from_secs(60);

fn watch(context: &Context, status: &Status) -> Duration {
    match watchdog::pass(context, None) {
        Ok(report) => {
            for killed in &report.killed {
                tracing::info!(run = %killed.run, reason = killed.reason, "ended");
            }
            for failed in report.failed {
                status.trouble(Duty::Watchdog, Some(failed.path), &failed.error);
            }
        }
        Err(error) => status.trouble(Duty::Watchdog, None, &error),
    }
    Duration::from_secs(context.config.watchdog_interval_secs)
}

/// The pause after a tick that did not take place.
const AFTER_A_FAILED_TICK: Duration = Duration::from_secs(5);

fn fire(context: &Context, status: &Status) -> Duration {
    match scheduler::tick(context, scheduler::time::now()) {
        Ok(report) => {
            for failed in report.failed {
                status.trouble(Duty::Schedule, Some(failed.path), &failed.error);
            }
            scheduler::time::pause(report.pause)
        }
        Err(error) => {
            status.trouble(Duty::Schedule, None, &error);
            AFTER_A_FAILED_TICK
        }
    }
}

/// How long a sweep in the background deletes before it looks at the clock; the rest is done from the trash.
const SWEEPING_PATIENCE: Duration = Duration::from_secs(60 * 60);

fn sweep(context: &Context, status: &Status) -> Duration {
    match sweep::sweep(context, None, Instant::now() + SWEEPING_PATIENCE) {
        Ok(report) => {
            for removed in &report.removed {
                tracing::info!(run = %removed.run, reason = %removed.reason, bytes = removed.bytes, "removed");
            }
            for failed in report.failed {
                status.trouble(Duty::Sweep, Some(failed.path), &failed.error);
            }
            if let Some(doubt) = report.clock_doubt {
                status.trouble(Duty::Sweep, None, &format!("{doubt}; nothing was removed this time"));
            }
        }
        // Another process does our work.
        Err(SweepError::Turn(TurnError::Taken(_))) => {}
        Err(error) => status.trouble(Duty::Sweep, None, &error),
    }
    match trash::empty(&context.home) {
        Ok(()) | Err(TrashError::Turn(TurnError::Taken(_))) => {}
        Err(error) => status.trouble(Duty::Sweep, Some(context.home.trash().display().to_string()), &error),
    }
    for error in leftovers::remove(&context.home, UnixSeconds::now()) {
        status.trouble(Duty::Sweep, None, &error);
    }
    Duration::from_secs(context.config.cleanup_interval_secs)
}
