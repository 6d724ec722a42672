//! Which versions the agents' programs have. One that hangs is ended, and holds up no other.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::agent::{Agent, AgentName, Found};
use crate::bounded_command;
use crate::quote::quote;

/// How long a program may take to say its version: some take 5 s.
const VERSION_TIMEOUT: Duration = Duration::from_secs(8);

const MAX_VERSION_CHARS: usize = 60;

/// Asks the programs for their versions, all at once.
pub(super) fn versions<'a>(agents: impl Iterator<Item = (&'a Agent, &'a Found)>) -> BTreeMap<AgentName, String> {
    std::thread::scope(|scope| {
        let asked = agents.filter(|(agent, _)| !agent.definition.version.is_empty());
        let asked: Vec<_> = asked.map(|(agent, found)| (agent, scope.spawn(move || version(agent, found)))).collect();
        asked.into_iter().filter_map(|(agent, asking)| Some((agent.name.clone(), asking.join().ok()?))).collect()
    })
}

fn version(agent: &Agent, found: &Found) -> String {
    let mut command = Command::new(&found.program);
    // Some look around where they are started.
    command.current_dir("/").args(&agent.definition.version).envs(&agent.definition.env);
    command.envs(found.on.as_ref().map(|(_, path)| ("PATH", path)));
    match bounded_command::run(&mut command, Instant::now() + VERSION_TIMEOUT) {
        Ok(finished) if finished.succeeded != Some(false) => {
            let said = String::from_utf8_lossy(&finished.stdout).into_owned();
            // A warning may come before it.
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            format!("version {}", quote(last.trim(), MAX_VERSION_CHARS))
        }
        Ok(_) => "it fails when asked for its version".to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            format!("it did not say its version within {} s", VERSION_TIMEOUT.as_secs())
        }
        Err(error) => format!("it cannot be asked for its version: {error}"),
    }
}
