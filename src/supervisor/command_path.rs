//! Where a run's command is, once its login shell has set PATH.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::anyhow;

use crate::agent::shell_path::{Answer, Asker, Mode};
use crate::agent::{AgentCommand, Found, Source, find_command};
use crate::environment::Variables;
use crate::home::Home;
use crate::run::context::Program;
use crate::run::record::Environment;

pub(super) const PATH: &str = "PATH";

/// How long an interactive shell may take, where the supervisor gives the whole start a little more.
const INTERACTIVE_SHELL_TIMEOUT: Duration = Duration::from_secs(50);

/// Finds a run's command. An interactive shell is asked only if that is nowhere else, and again if what it said before does not help.
///
/// # Errors
/// It is nowhere, or this program's own file, which asks the shell, is not known.
pub(super) fn find(
    home: &Home,
    program: &str,
    command: &AgentCommand,
    environment: &Environment,
) -> anyhow::Result<Found> {
    let mut paths = paths(command, environment);
    let is_set = paths.iter().any(|(source, _)| *source == Source::Set);
    let found = find_command(program, paths.clone());
    if found.is_ok() || !command.login_shell || is_set || program.starts_with('/') {
        return Ok(found?);
    }
    let us = Program::current().map_err(|error| {
        anyhow!("this program's own file is not known: {error}; if moadim-mcp was replaced, restart the host")
    })?;
    let asker = Asker::new(us.path().to_owned(), home.clone(), environment.inherited.clone());
    let known = || asker.known(Mode::Interactive);
    let again = || asker.ask_again(Mode::Interactive, INTERACTIVE_SHELL_TIMEOUT);
    let answers: [&dyn Fn() -> Option<Answer>; 2] = [&known, &again];
    for answer in answers {
        let Some(Ok(path)) = answer() else { continue };
        paths.retain(|(source, _)| *source != Source::InteractiveShell);
        paths.push((Source::InteractiveShell, path.into()));
        if let Ok(found) = find_command(program, paths.clone()) {
            return Ok(found);
        }
    }
    Ok(find_command(program, paths)?)
}

/// Returns the PATHs that a run's command is looked for on, each with whose it is.
fn paths(command: &AgentCommand, environment: &Environment) -> Vec<(Source, OsString)> {
    let of = |variables: &Variables| variables.get(PATH).map(OsString::from);
    if let Some(path) = of(&environment.set) {
        return vec![(Source::Set, path)];
    }
    let own = (Source::Own, of(&environment.inherited));
    // By now the login shell has set it.
    let all = [(Source::LoginShell, std::env::var_os(PATH).filter(|_| command.login_shell)), own];
    all.into_iter().filter_map(|(source, path)| Some((source, path?))).collect()
}
