//! `demo`: shows the whole life of a routine, with the tools and the watchdog of the server, in a temporary home.
//!
//! It is a smoke test too: a wrong answer ends it with an error, and whatever happens, nothing that it started or made is left.

mod deadline;
mod host_config;
mod screen;
mod stage;
mod story;

use std::time::Duration;

use anyhow::Context as _;

use super::app;
use deadline::Deadline;
use screen::Screen;

/// The longest that the story may take on a busy machine.
const STORY_LIMIT: Duration = Duration::from_secs(60);

pub(super) fn demo() -> anyhow::Result<()> {
    let deadline = Deadline::start(STORY_LIMIT)?;
    let program = app::program()?;
    let app = stage::set(program.clone())?;
    let mut screen = Screen { out: anstream::stdout(), steps: 0 };
    let shown = story::tell(&app, &mut screen, &deadline);
    let root = app.home.root().display();
    let cleared = stage::clear(&app).with_context(|| format!("the demo's home {root} could not be cleared"));
    match (shown, cleared) {
        (Ok(()), Ok(())) => {}
        (Err(error), Ok(())) => return Err(error.context("the demo failed (nothing of it is left behind)")),
        (Ok(()), Err(error)) => return Err(error),
        (Err(error), Err(left)) => return Err(error.context(format!("{left:#}")).context("the demo failed")),
    }
    screen.verdict("Left behind: no process, no tmux server, no directory.")?;
    host_config::show(&mut screen, program.path())
}
