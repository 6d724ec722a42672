//! The temporary home, and how it is removed so that nothing is left.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::home::{Home, atomic_file, random_suffix};
use crate::process_tree::{Process, Scan, names};
use crate::run::context::{App, Program};
use crate::run::end::{Order, end_run};
use crate::run::entry::Entry;
use crate::run::record::{EndCause, Outcome};

/// A short wait, because a person watches.
const CONFIG: &str = "kill_grace_secs = 1\n";

/// Without the login shell: its start-up files are not what the demo is about.
const SHELL_AGENT: &str = "command = \"sh\"\nlogin_shell = false\n";

/// How long the processes of ended runs may take to be gone.
const LAST_PROCESS_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes the home.
pub(super) fn set(program: Program) -> anyhow::Result<App> {
    let root = std::env::temp_dir().join(format!("moadim-demo-{}", random_suffix()));
    let made = DirBuilder::new().mode(0o700).create(&root);
    made.with_context(|| format!("cannot make a home in {}; set TMPDIR to a directory of yours", root.display()))?;
    let furnished = furnish(&root).inspect_err(|_| drop(std::fs::remove_dir_all(&root)));
    Ok(App::new(furnished?, program))
}

fn furnish(root: &Path) -> anyhow::Result<Home> {
    let home = Home::open(root)?;
    atomic_file::write(&home.config_file(), CONFIG.as_bytes())?;
    atomic_file::write(&home.agents().join("shell.toml"), SHELL_AGENT.as_bytes())?;
    Ok(home)
}

/// Ends what still runs, removes the home, and makes sure that nothing is left. The directory goes last: without it nobody could
/// find what is left over.
pub(super) fn clear(app: &App) -> anyhow::Result<()> {
    let context = app.context()?;
    let order = Order { cause: EndCause::Stopped, reason: "the demo is over".into(), by: "demo".into() };
    for entry in Entry::list(&context.home)? {
        end_run(&context, entry.id(), &order)?;
    }
    await_the_end(&context.home)?;
    let root = context.home.root();
    std::fs::remove_dir_all(root)?;
    ensure!(!root.exists(), "it is there again");
    Ok(())
}

/// Returns how each run in the history ended; it has other lines, too.
pub(super) fn ended(home: &Home) -> anyhow::Result<Vec<Outcome>> {
    let text = atomic_file::if_present(atomic_file::read_text(&home.history_file()))?.unwrap_or_default();
    let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<serde_json::Value>, _>>()?;
    let of_runs = lines.into_iter().filter(|line| line["kind"] == "run");
    Ok(of_runs.map(serde_json::from_value).collect::<Result<_, _>>()?)
}

/// Waits until no process carries the cookie of an ended run, and no window is left. Supervisors carry cookies too, and exit a
/// moment after their runs; the last window takes the tmux server with it, so nobody listens on its socket then.
fn await_the_end(home: &Home) -> anyhow::Result<()> {
    let runs = ended(home)?;
    let tmux = home.root().join("tmux.sock");
    let deadline = Instant::now() + LAST_PROCESS_TIMEOUT;
    loop {
        let scan = Scan::take_twice()?;
        let left: Vec<Process> = runs.iter().flat_map(|run| scan.carriers(&run.cookie)).collect();
        let has_window = UnixStream::connect(&tmux).is_ok();
        if left.is_empty() && !has_window {
            return Ok(());
        }
        let windows = if has_window { "its tmux server is alive; " } else { "" };
        ensure!(Instant::now() < deadline, "{windows}these processes of runs are left: {}", names(&left));
        std::thread::sleep(Duration::from_millis(20));
    }
}
