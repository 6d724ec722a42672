//! The janitor: the background task that ends hung runs and removes expired workbenches.
//!
//! Two loops, each a pass and a pause, a pass on a thread of its own; the passes themselves are synchronous and know no clock but the one they
//! read. `plan` and the watchdog's `decide` are pure, the rest are their effects.

pub mod cleanup;
pub mod doctor;
pub mod evidence;
pub mod health;
pub mod leftovers;
pub mod plan;
pub mod remove;
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
use crate::home::config::Config;
use crate::run::workplace::{Site, Workplace};
use status::{Duty, Status};
use sweep::SweepError;
use trash::TrashError;
use turn::TurnError;

/// Runs both loops until it is dropped: the watchdog, and the sweep, which makes its first pass at once.
pub async fn run(site: Arc<Site>, status: Arc<Status>) {
    let watchdog = repeat(Arc::clone(&site), Arc::clone(&status), Duty::Watchdog, watch);
    let sweep = repeat(site, status, Duty::Sweep, sweep);
    tokio::join!(watchdog, sweep);
}

/// A pass over the home; what is wrong goes into the status.
type Pass = fn(&Workplace, &Status);

async fn repeat(site: Arc<Site>, status: Arc<Status>, duty: Duty, pass: Pass) {
    let report = Arc::clone(&status);
    let worker = Worker::start(move || one_pass(&site, &report, duty, pass));
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

/// Makes a pass, and returns the pause after it.
fn one_pass(site: &Site, status: &Status, duty: Duty, pass: Pass) -> Duration {
    status.begin(duty);
    let config = match site.workplace() {
        Ok(workplace) => {
            pass(&workplace, status);
            workplace.config
        }
        // Settings that cannot be read stop ending and reaping: no default may be shorter than what a person wrote.
        Err(error) => {
            status.trouble(duty, Some(site.home().config_file().display().to_string()), &error);
            Config::default()
        }
    };
    Duration::from_secs(match duty {
        Duty::Watchdog => config.watchdog_interval_secs,
        Duty::Sweep => config.cleanup_interval_secs,
    })
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

fn watch(workplace: &Workplace, status: &Status) {
    match watchdog::pass(workplace, None) {
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
}

/// How long a sweep in the background deletes before it looks at the clock; the rest is done from the trash.
const SWEEPING_PATIENCE: Duration = Duration::from_secs(60 * 60);

fn sweep(workplace: &Workplace, status: &Status) {
    match sweep::sweep(workplace, None, Instant::now() + SWEEPING_PATIENCE) {
        Ok(report) => {
            for removed in &report.removed {
                tracing::info!(run = %removed.run, reason = %removed.reason, bytes = removed.bytes, "removed");
            }
            for failed in report.failed {
                status.trouble(Duty::Sweep, Some(failed.path), &failed.error);
            }
            if let Some(secs) = report.clock_jump_secs {
                let text =
                    format!("the wall clock was set by {secs} s since the last sweep; nothing was removed this time");
                status.trouble(Duty::Sweep, None, &text);
            }
        }
        // Another process does our work.
        Err(SweepError::Turn(TurnError::Taken { .. })) => {}
        Err(error) => status.trouble(Duty::Sweep, None, &error),
    }
    for error in leftovers::remove(&workplace.home, UnixSeconds::now()) {
        status.trouble(Duty::Sweep, None, &error);
    }
    match trash::empty(&workplace.home) {
        Ok(()) | Err(TrashError::Turn(TurnError::Taken { .. })) => {}
        Err(error) => status.trouble(Duty::Sweep, Some(workplace.home.trash().display().to_string()), &error),
    }
    if let Err(error) = workplace.session_host.shut_down_if_idle() {
        tracing::debug!(%error, "the session host was left as it is");
    }
}
