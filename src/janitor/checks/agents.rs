//! Checks of the agents: the shell that finds their commands, their files, their environments.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{Finding, Subject, program};
use crate::agent::{Agent, AgentDefinition, Found, Installed, Registry, env_file};
use crate::clock::UnixSeconds;
use crate::environment::{self, EnvName};
use crate::options::PERMISSIONS;
use crate::routine::listing::{self, Filter};
use crate::routine::model::{Definition, Routine};
use crate::run::checks::chosen_verify;
use crate::run::environment::missing;
use crate::run::hold::Holds;
use crate::run::options::foresee_options;
use crate::run::prompt::check_preamble;

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

/// Finds files that hide a built-in agent: what it was given since, such as permissions and a log that can be read, is missing there.
pub(super) fn hiding(subject: &Subject<'_>) -> Vec<Finding> {
    let finding = |(agent, path): (&Agent, &Path)| {
        Finding::problem_at(
            path,
            format!("it hides the built-in agent '{}', with its options and its readable log", agent.name),
            format!(
                "add the line extends = \"{}\" and keep only what differs; or give the file another name",
                agent.name
            ),
        )
    };
    let misnamed = |path: &PathBuf| {
        let found = "it is no agent's file: a name has lower-case letters, digits, dashes and underscores";
        Finding::problem_at(path, found, "rename it, or give it another extension than .toml")
    };
    let registry = || subject.registry.iter();
    let misnamed = registry().flat_map(|registry| registry.misnamed().iter().map(misnamed));
    registry().flat_map(Registry::hiding).map(finding).chain(misnamed).collect()
}

/// Reads what stands before each prompt; without it nothing is started.
pub(super) fn preamble(subject: &Subject<'_>) -> Vec<Finding> {
    check_preamble(&subject.context.home).err().iter().map(Finding::damaged).collect()
}

/// Tells which agents wait for a usage limit to be reset, and which holds cannot be read.
pub(super) fn holds(subject: &Subject<'_>) -> Vec<Finding> {
    let now = UnixSeconds::now();
    let (holds, unreadable) = Holds::read(&subject.context.home, now);
    let held = holds.in_force(now).map(|hold| {
        let found = format!("its scheduled runs wait until {}: {}", hold.held_until, hold.in_words());
        let fix = "nothing to do; a run that you trigger starts all the same, and its success lifts the hold";
        Finding::well(&format!("agent {}", hold.agent), found).hint(fix)
    });
    held.chain(unreadable.iter().map(Finding::damaged)).collect()
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
    let refused = routines.iter().filter(|routine| routine.definition.enabled).filter_map(|routine| {
        let agent = registry.get(&routine.definition.agent.parse().ok()?).ok()?;
        let error = foresee_options(&subject.context, &agent, &routine.definition).err()?;
        let found = format!("it cannot run: {error}");
        Some(Finding::problem(
            &format!("routine {}", routine.slug),
            found,
            "change its options, or do what the message says",
        ))
    });
    let missing = routines.iter().filter(|routine| routine.definition.enabled).flat_map(|routine| {
        let agent = routine.definition.agent.parse().ok().and_then(|name| registry.get(&name).ok());
        agent.map(|agent| missing_checks(subject, routine, &agent)).unwrap_or_default()
    });
    let refused: Vec<Finding> = refused.chain(missing).collect();
    let listed = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(", ");
    let agents: Vec<(&Agent, _)> =
        registry.agents().map(|agent| (agent, subject.search_path.find(&agent.definition))).collect();
    let mut versions =
        program::versions(agents.iter().filter_map(|(agent, found)| Some((*agent, found.as_ref().ok()?))));
    let mut findings = refused;
    for (agent, found) in agents {
        let what = format!("agent {}", agent.name);
        let used_by = users.remove(agent.name.to_string().as_str());
        findings.push(match (found, used_by) {
            (Ok(found), _) => of_installed(subject, agent, &found, versions.remove(&agent.name)),
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

/// Looks for the programs of a routine's precheck and verification, where its agent's command is looked for.
fn missing_checks(subject: &Subject<'_>, routine: &Routine, agent: &Agent) -> Vec<Finding> {
    let trusted = &routine.definition.trusted;
    let precheck = (!trusted.precheck.is_empty()).then_some(("precheck", trusted.precheck.as_slice()));
    let verify = chosen_verify(trusted, &agent.definition).map(|(command, _)| ("verify", command));
    let missing = precheck.into_iter().chain(verify).filter_map(|(key, command)| {
        let definition = AgentDefinition { command: command.first()?.clone(), ..agent.definition.clone() };
        let error = subject.search_path.find(&definition).err()?;
        let fix = match trusted.verify {
            None if key == "verify" => "install it, or change `verify` in the agent's file".to_owned(),
            _ => format!("install it, or change `{key}` of [trusted] in its routine.toml"),
        };
        Some(Finding::problem(
            &format!("routine {}", routine.slug),
            format!("its {key} cannot be started: {error}"),
            fix,
        ))
    });
    missing.collect()
}

/// Describes an agent whose command is there: its version, what it may do, and what would let it do more.
fn of_installed(subject: &Subject<'_>, agent: &Agent, found: &Found, version: Option<String>) -> Finding {
    let definition = &agent.definition;
    let permissions = match foresee_options(&subject.context, agent, &Definition::default()) {
        Ok(choice) => {
            choice.permissions().map(|level| format!("permissions \"{level}\" unless a routine says otherwise"))
        }
        Err(error) => {
            return Finding::problem(&format!("agent {}", agent.name), error.to_string(), "do what the message says");
        }
    };
    let said = [Some(found.to_string()), version, permissions].into_iter().flatten().collect::<Vec<_>>().join("; ");
    let finding = Finding::well(&format!("agent {}", agent.name), said);
    let missing =
        definition.options.get(PERMISSIONS).into_iter().flat_map(|option| &option.adds).find_map(|(level, adds)| {
            let missing = adds
                .requires
                .iter()
                .filter(|(program, _)| subject.search_path.has_beside(definition, program) == Installed::No);
            let packages: Vec<&str> = missing.map(|(_, package)| package.as_str()).collect();
            (!packages.is_empty()).then(|| format!("for permissions \"{level}\" install {}", packages.join(" and ")))
        });
    let hint = definition
        .hint
        .as_ref()
        .map(|hint| hint.replace("{workbenches}", &subject.context.home.workbenches().display().to_string()));
    match missing.into_iter().chain(hint).reduce(|one, other| format!("{one}; {other}")) {
        Some(advice) => finding.hint(advice),
        None => finding,
    }
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
