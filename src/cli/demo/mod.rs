//! `demo`: shows the whole life of a routine, with the real server in a temporary home.
//!
//! It is a smoke test too: a wrong answer ends it with an error, and whatever happens, nothing that it started or made is left.

mod client;
mod deadline;
mod host_config;
mod screen;
mod stage;
mod story;

use std::time::Duration;

use super::app;
use deadline::Deadline;
use screen::Screen;
use stage::Stage;

/// The longest that the story may take on a busy machine.
const STORY_LIMIT: Duration = Duration::from_secs(60);

pub(super) fn demo() -> anyhow::Result<()> {
    let deadline = Deadline::start(STORY_LIMIT)?;
    let program = app::program()?;
    let stage = Stage::set(program.clone())?;
    let mut screen = Screen::default();
    let shown = story::tell(&stage, &mut screen, &deadline);
    let cleared = stage.clear();
    match (shown, cleared) {
        (Ok(()), Ok(())) => {}
        (Err(error), Ok(())) => return Err(error.context("the demo failed (nothing of it is left behind)")),
        (Ok(()), Err(error)) => return Err(error),
        (Err(error), Err(left)) => return Err(error.context(format!("{left:#}")).context("the demo failed")),
    }
    screen.verdict("Left behind: no process, no tmux server, no directory.")?;
    host_config::show(&mut screen, program.path())?;
    Ok(())
}
