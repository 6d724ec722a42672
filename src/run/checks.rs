//! The commands of a person that decide about a run: one before its agent starts, one after it has ended well.

use super::id::RunId;
use super::record::{Precheck, Verify};
use super::workbench::Workbench;
use crate::agent::{Agent, AgentDefinition, fill_check};
use crate::routine::model::{Definition, Trusted};

/// How long a verification may take where nobody says.
const DEFAULT_VERIFY_SECS: u64 = 300;

/// Returns what decides whether a run is started, if its routine has such a command.
pub(super) fn precheck(
    workbench: &Workbench,
    run: &RunId,
    definition: &Definition,
    slot: Option<&String>,
) -> Option<Precheck> {
    let command = &definition.trusted.precheck;
    (!command.is_empty()).then(|| Precheck { command: filled(workbench, run, command), slot: slot.cloned() })
}

/// Returns what decides whether a run has succeeded, if its routine or its agent has such a command.
pub(super) fn verify(workbench: &Workbench, run: &RunId, definition: &Definition, agent: &Agent) -> Option<Verify> {
    let (command, max_secs) = chosen_verify(&definition.trusted, &agent.definition)?;
    Some(Verify { command: filled(workbench, run, command), max_secs })
}

/// Chooses the verification of a routine's runs, and how long it may take: the routine's own, which may be none, else the agent's.
pub(crate) fn chosen_verify<'a>(trusted: &'a Trusted, agent: &'a AgentDefinition) -> Option<(&'a [String], u64)> {
    let (command, secs) = match &trusted.verify {
        Some(command) => (command, trusted.verify_secs),
        None => (&agent.verify, trusted.verify_secs.or(agent.verify_secs)),
    };
    (!command.is_empty()).then(|| (command.as_slice(), secs.unwrap_or(DEFAULT_VERIFY_SECS)))
}

fn filled(workbench: &Workbench, run: &RunId, command: &[String]) -> Vec<String> {
    fill_check(command, workbench.directory(), &workbench.prompt_file(), &run.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::AgentSource;
    use crate::home::Home;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_routines_own_verification_wins_and_an_empty_one_is_none() {
        let agent = AgentDefinition { verify: words("make check"), verify_secs: Some(7), ..AgentDefinition::default() };
        let none = AgentDefinition::default();
        let chosen = |verify: Option<&str>, verify_secs, agent: &AgentDefinition| {
            let trusted = Trusted { verify: verify.map(words), verify_secs, ..Trusted::default() };
            chosen_verify(&trusted, agent).map(|(command, secs)| (command.join(" "), secs))
        };
        let some = |command: &str, secs| Some((command.to_owned(), secs));
        assert_eq!(chosen(None, None, &none), None);
        assert_eq!(chosen(None, None, &agent), some("make check", 7));
        assert_eq!(chosen(None, Some(9), &agent), some("make check", 9));
        assert_eq!(chosen(Some("npm test"), None, &agent), some("npm test", DEFAULT_VERIFY_SECS));
        assert_eq!(chosen(Some("npm test"), Some(9), &none), some("npm test", 9));
        assert_eq!(chosen(Some(""), Some(9), &agent), None);
    }

    #[test]
    fn what_tools_write_is_filled_in_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let run: RunId = "a-1".parse().unwrap();
        let mut definition = Definition::default();
        definition.trusted.verify = Some(words("sh {workbench}/{run} {prompt} {prompt_file} {uuid}"));
        let agent =
            Agent { name: "a".parse().unwrap(), definition: AgentDefinition::default(), source: AgentSource::BuiltIn };
        let place = Workbench::named(&home, &run);
        let workbench = place.directory().display().to_string();
        let expected = format!("sh {workbench}/a-1 {{prompt}} {workbench}/prompt.md {{uuid}}");
        assert_eq!(verify(&place, &run, &definition, &agent).unwrap().command, words(&expected));
        assert_eq!(precheck(&place, &run, &definition, None), None);
    }
}
