//! `demo`: the whole life of a routine, told to a person, against the real server in a throw-away home.
//!
//! It is a smoke test too: an answer that is not as it should be ends it with an error, and whatever happens, nothing that
//! it started or made is left.

mod client;
mod host_config;
mod patience;
mod screen;
mod stage;
mod story;

use std::time::Duration;

use anyhow::Context as _;

use crate::run::context::Program;
use patience::Patience;
use screen::Screen;
use stage::Stage;

/// The longest that the story may take, on a busy machine; clearing up after it is quick.
const STORY_LIMIT: Duration = Duration::from_secs(60);

/// Shows it.
pub(super) fn demo() -> anyhow::Result<()> {
    let patience = Patience::start(STORY_LIMIT)?;
    let program = Program::current().context("this program's own file is not known")?;
    let stage = Stage::set(program.clone())?;
    let mut screen = Screen::default();
    let told = story::tell(&stage, &mut screen, &patience);
    let cleared = stage.clear();
    match (told, cleared) {
        (Ok(()), Ok(())) => {}
        (Err(error), Ok(())) => return Err(error.context("the demo failed (nothing of it is left behind)")),
        (Ok(()), Err(error)) => return Err(error),
        (Err(error), Err(left)) => return Err(error.context(format!("{left:#}")).context("the demo failed")),
    }
    screen.verdict("Left behind: no process, no tmux server, no directory.")?;
    host_config::show(&mut screen, program.path())?;
    Ok(())
}
