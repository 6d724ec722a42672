//! The janitor: the background task that ends hung runs and removes expired workbenches.
//!
//! Two loops, each a blocking pass and a pause; the passes themselves are synchronous and know no clock but the one they
//! read. `plan` and the watchdog's `decide` are pure, the rest are their effects.

pub mod cleanup;
pub mod evidence;
pub mod health;
pub mod plan;
pub mod remove;
pub mod status;
pub mod sweep;
pub mod watchdog;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::home::config::Config;
use crate::run::workplace::{Site, Workplace};
use status::{Duty, Status};

/// Runs both loops until it is dropped: the watchdog, and the sweep, which makes its first pass at once.
pub async fn run(site: Arc<Site>, status: Arc<Status>) {
    let watchdog = repeat(Arc::clone(&site), Arc::clone(&status), Duty::Watchdog, watch);
    let sweep = repeat(site, status, Duty::Sweep, sweep);
    tokio::join!(watchdog, sweep);
}

/// A pass over the home; what is wrong goes into the status.
type Pass = fn(&Workplace, &Status);

async fn repeat(site: Arc<Site>, status: Arc<Status>, duty: Duty, pass: Pass) {
    loop {
        let (site, report) = (Arc::clone(&site), Arc::clone(&status));
        let done = tokio::task::spawn_blocking(move || {
            // Settings that cannot be read stop reaping and ending: no default may be shorter than what a person wrote.
            match site.workplace() {
                Ok(workplace) => {
                    pass(&workplace, &report);
                    workplace.config
                }
                Err(error) => {
                    report.trouble(duty, Some(site.home().config_file().display().to_string()), &error);
                    Config::default()
                }
            }
        });
        let config = done.await.unwrap_or_else(|error| {
            status.trouble(duty, None, &error);
            Config::default()
        });
        let pause = Duration::from_secs(match duty {
            Duty::Watchdog => config.watchdog_interval_secs,
            Duty::Sweep => config.cleanup_interval_secs,
        });
        status.passed(duty, pause);
        tokio::time::sleep(pause).await;
    }
}

fn watch(workplace: &Workplace, status: &Status) {
    status.begin(Duty::Watchdog);
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
    status.begin(Duty::Sweep);
    match sweep::sweep(workplace, None, Instant::now() + SWEEPING_PATIENCE) {
        Ok(report) => {
            for removed in &report.removed {
                tracing::info!(run = %removed.run, reason = removed.reason, bytes = removed.bytes, "removed");
            }
            for failed in report.failed {
                status.trouble(Duty::Sweep, Some(failed.path), &failed.error);
            }
        }
        // Another process does our work.
        Err(sweep::SweepError::Busy { .. }) => {}
        Err(error) => status.trouble(Duty::Sweep, None, &error),
    }
    match sweep::empty_trash(workplace) {
        Ok(()) | Err(sweep::SweepError::Busy { .. }) => {}
        Err(error) => status.trouble(Duty::Sweep, Some(workplace.home.trash().display().to_string()), &error),
    }
    if let Err(error) = workplace.session_host.shut_down_if_idle() {
        tracing::debug!(%error, "the session host was left as it is");
    }
}
