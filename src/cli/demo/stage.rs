//! The temporary home, and how it is removed so that nothing is left.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::home::{Home, atomic_file, random_suffix};
use crate::process_tree::names;
use crate::process_tree::{Cookie, Process, Scan};
use crate::run::context::{App, Context, Program};
use crate::run::end::{Order, end_run};
use crate::run::entry::Entry;
use crate::run::record::{EndCause, Outcome};

/// Short waits, because a person watches.
const CONFIG: &str = "watchdog_interval_secs = 1\nkill_grace_secs = 1\n";

/// Without the login shell: its start-up files are not what the demo is about.
const SHELL_AGENT: &str = "command = \"sh\"\nlogin_shell = false\n";

/// How long the processes of ended runs may take to be gone.
const LAST_PROCESS_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Stage {
    app: App,
}

impl Stage {
    pub(super) fn set(program: Program) -> anyhow::Result<Self> {
        let root = std::env::temp_dir().join(format!("moadim-demo-{}", random_suffix()));
        let made = DirBuilder::new().mode(0o700).create(&root);
        made.with_context(|| format!("cannot make a home in {}; set TMPDIR to a directory of yours", root.display()))?;
        match furnish(&root) {
            Ok(home) => Ok(Self { app: App::new(home, program) }),
            Err(error) => {
                let _ = std::fs::remove_dir_all(&root);
                Err(error)
            }
        }
    }

    pub(super) fn home(&self) -> &Home {
        self.app.home()
    }

    pub(super) fn program(&self) -> &Program {
        self.app.program()
    }

    /// Ends what still runs, removes the home, and makes sure that nothing is left.
    pub(super) fn clear(self) -> anyhow::Result<()> {
        let root = self.home().root();
        clear(&self.app).with_context(|| format!("the demo's home {} could not be cleared", root.display()))
    }
}

fn furnish(root: &Path) -> anyhow::Result<Home> {
    let home = Home::open(root)?;
    atomic_file::write(&home.config_file(), CONFIG.as_bytes())?;
    atomic_file::write(&home.agents().join("shell.toml"), SHELL_AGENT.as_bytes())?;
    Ok(home)
}

/// The directory goes last: without it nobody could find what is left over.
fn clear(app: &App) -> anyhow::Result<()> {
    let context = app.context()?;
    let cookies = cookies(&context)?;
    end_runs(&context)?;
    await_the_end(&cookies)?;
    await_windows(app.home());
    let root = app.home().root();
    std::fs::remove_dir_all(root)?;
    ensure!(!root.exists(), "it is there again");
    Ok(())
}

/// Waits until the last window has left, and the tmux server with it: nobody listens on its socket then.
fn await_windows(home: &Home) {
    let deadline = Instant::now() + LAST_PROCESS_TIMEOUT;
    while UnixStream::connect(home.root().join("tmux.sock")).is_ok() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns the cookies of all runs, ended ones from the history.
fn cookies(context: &Context) -> anyhow::Result<Vec<Cookie>> {
    let mut cookies: Vec<Cookie> = Vec::new();
    for entry in Entry::list(&context.home)? {
        cookies.extend(entry.manifest().map(|manifest| manifest.cookie).ok());
    }
    cookies.extend(ended(&context.home)?.into_iter().map(|outcome| outcome.cookie));
    Ok(cookies)
}

/// Returns how each run in the history ended.
pub(super) fn ended(home: &Home) -> anyhow::Result<Vec<Outcome>> {
    match atomic_file::read_text(&home.history_file()) {
        Ok(text) => Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn end_runs(context: &Context) -> anyhow::Result<()> {
    let order = Order { cause: EndCause::Stopped, reason: "the demo is over".into(), by: "demo".into() };
    for entry in Entry::list(&context.home)? {
        end_run(context, entry.id(), &order)?;
    }
    Ok(())
}

/// Waits until no process carries one of the cookies. Supervisors carry theirs too, and exit a moment after their runs.
fn await_the_end(cookies: &[Cookie]) -> anyhow::Result<()> {
    let deadline = Instant::now() + LAST_PROCESS_TIMEOUT;
    loop {
        let scan = Scan::take_twice()?;
        let left: Vec<Process> = cookies.iter().flat_map(|cookie| scan.carriers(cookie)).collect();
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "these processes are left: {}", names(&left));
        std::thread::sleep(Duration::from_millis(20));
    }
}
