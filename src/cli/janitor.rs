//! The background task alone, for times when no host is open.

use std::io::IsTerminal;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::home::Home;
use crate::janitor;
use crate::janitor::company::Kind;
use crate::janitor::registration::Registration;
use crate::logging;
use crate::run::context::{App, Program};

/// Runs until the process is told to go (SIGTERM, SIGINT, SIGHUP). What it started goes on.
pub(super) fn janitor() -> anyhow::Result<()> {
    logging::start_writing();
    let home = Home::open(Home::from_environment()?)?;
    if std::io::stderr().is_terminal() {
        let root = home.root().display();
        logging::say(&format!("moadim-mcp watches over {root} and fires its routines; Ctrl-C ends it."));
    }
    let _registration = Registration::enter(&home, Kind::Janitor);
    let program = Program::current().context("this program's own file is not known")?;
    let app = Arc::new(App::new(home, program));
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let told: anyhow::Result<()> = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        tokio::select! {
            () = janitor::run(app) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up.recv() => {}
        }
        Ok(())
    });
    // Not awaited: a pass under way may take its time, and whatever it has begun is made to be found so.
    runtime.shutdown_background();
    told
}
