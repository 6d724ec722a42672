//! `janitor`: the background task alone, for times when no host is open.

use std::io::IsTerminal;
use std::sync::Arc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::app;
use crate::janitor;
use crate::janitor::registration::Registration;
use crate::logging;

/// Works until a signal ends it (SIGTERM, SIGINT, SIGHUP). Runs that it started go on.
pub(super) fn janitor() -> anyhow::Result<()> {
    logging::start_writing();
    let app = app::open()?;
    if std::io::stderr().is_terminal() {
        let root = app.home.root().display();
        logging::say(&format!("moadim-mcp runs the schedules and cleans up in {root}; Ctrl-C ends it."));
    }
    let _registration = Registration::enter(&app.home);
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    janitor::start(&Arc::new(app));
    // Does not wait for a pass under way: the next process finds what it has begun.
    signals.forever().next();
    Ok(())
}
