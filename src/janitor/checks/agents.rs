//! Checks of the agents: the shell that finds their commands, their files, their environments.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, Subject};
use crate::agent::{Agent, Registry, env_file};
use crate::environment::{self, EnvName};
use crate::routine::listing::{self, Filter};
use crate::run::environment::missing;

pub(super) fn login_shell(subject: &Subject<'_>) -> Vec<Finding> {
    let finding = match subject.search_path.problem() {
        Some(problem) => Some(Finding::problem(
            "login shell",
            problem,
            "do what the message says, and see the shell's start-up files; agents with login_shell = false start without it",
        )),
        None if subject.search_path.is_known() => Some(Finding::well("login shell", "it prints its PATH")),
        None => None,
    };
    finding.into_iter().collect()
}

pub(super) fn definitions(subject: &Subject<'_>) -> Vec<Finding> {
    subject.registry.iter().flat_map(Registry::problems).map(Finding::damaged).collect()
}

/// Looks for each agent's command. One that no enabled routine names may be missing.
pub(super) fn commands(subject: &Subject<'_>) -> Vec<Finding> {
    let Some(registry) = &subject.registry else { return Vec::new() };
    let home = &subject.context.home;
    let routines = match listing::list(home, &Filter::default(), None, usize::MAX) {
        Ok(page) => page.routines,
        Err(error) => return vec![Finding::unchecked("which agents the routines name", &error)],
    };
    let mut users: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for routine in routines.iter().filter(|routine| routine.definition.enabled) {
        users.entry(&routine.definition.agent).or_default().insert(routine.slug.as_str());
    }
    let listed = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(", ");
    let mut findings = Vec::new();
    for agent in registry.agents() {
        let what = format!("agent {}", agent.name);
        let used_by = users.remove(agent.name.to_string().as_str());
        findings.push(match (subject.search_path.find(&agent.definition), used_by) {
            (Ok(found), _) => Finding::well(&what, found.to_string()),
            (Err(_), None) => Finding::well(&what, "its command is not installed, and no routine names it"),
            (Err(error), Some(routines)) => {
                let file = home.agents().join(format!("{}.toml", agent.name));
                Finding::problem(
                    &what,
                    format!("{error}; these routines need it: {}", listed(&routines)),
                    format!("install it, or set `command` in {}", file.display()),
                )
            }
        });
    }
    findings.extend(users.into_iter().map(|(agent, routines)| {
        let file = home.agents().join(format!("{agent}.toml"));
        Finding::problem(
            &format!("agent {agent}"),
            format!("there is no such agent, or its file is damaged; these routines need it: {}", listed(&routines)),
            format!("write {} (see `moadim-mcp agents`), or change the routine", file.display()),
        )
    }));
    findings
}

pub(super) fn environments(subject: &Subject<'_>) -> Vec<Finding> {
    subject.registry.iter().flat_map(Registry::agents).flat_map(|agent| of_environment(subject, agent)).collect()
}

/// Finds what an agent inherits and a process that may start it does not have, and what is wrong with its `.env` file.
fn of_environment(subject: &Subject<'_>, agent: &Agent) -> Vec<Finding> {
    let home = &subject.context.home;
    let path = env_file::path(home, &agent.name);
    let given = match env_file::read(home, &agent.name) {
        Ok(given) => given,
        Err(error) => {
            let fix = "do what the message says; until then the agent is not started";
            return vec![Finding::problem_at(path, error.to_string(), fix)];
        }
    };
    let given = |name: &EnvName| given.contains_key(name) || agent.definition.env.contains_key(name);
    let ours = environment::of_this_process();
    let lacking = |process: String, has: &dyn Fn(&EnvName) -> bool| -> Option<Finding> {
        let names: Vec<String> = missing(agent, |name| given(name) || has(name)).map(ToString::to_string).collect();
        let problem = format!(
            "{} is in inherit_env of the agent '{}', but not set in {process}: runs started there lack it{}",
            names.join(", "),
            agent.name,
            if agent.definition.login_shell { ", unless a start-up file sets it" } else { "" }
        );
        let fix =
            format!("write NAME=value into {} (chmod 600), or set it where that process is started", path.display());
        (!names.is_empty()).then(|| Finding::problem_at(&path, problem, fix))
    };
    let us = lacking(format!("this process (pid {})", std::process::id()), &|name| ours.contains_key(name));
    let peers = subject.peers.iter().filter(|peer| !peer.variables.is_empty());
    let peers =
        peers.filter_map(|peer| lacking(format!("the {peer}"), &|name| peer.variables.contains(&name.to_string())));
    us.into_iter().chain(peers).collect()
}
