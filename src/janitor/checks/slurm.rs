//! Checks of the cluster, where runs take place on Slurm: its programs and settings, what a node is like, and which machine of several
//! works for the home.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{Finding, Subject};
use crate::agent::env_file;
use crate::engine::slurm::Survey;
use crate::home::config::{Config, EngineKind};
use crate::janitor::probe::{self, Locks, PROBE_TIMEOUT, Probed, Report};
use crate::routine::listing::{self, Filter};
use crate::run::context::Context;
use crate::run::end::SUPERVISOR_MARGIN;
use crate::run::home_machine;
use crate::run::job_order::engine_of;

/// How old Slurm's last answer may be.
const RECENT: Duration = Duration::from_secs(60);

/// How long it may take to say how the cluster is set up.
const SURVEY_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Checks Slurm's programs and the cluster's settings.
pub(super) fn cluster(subject: &Subject<'_>) -> Vec<Finding> {
    let context = &subject.context;
    if !home_machine::uses_slurm(context) {
        return Vec::new();
    }
    match answer(context) {
        Ok(survey) => of_survey(&survey, &context.config),
        Err(finding) => vec![finding],
    }
}

/// Returns how the cluster is set up, or what keeps Slurm from answering.
fn answer(context: &Context) -> Result<Survey, Finding> {
    let slurm = context.slurm();
    let missing = slurm.missing_programs();
    if !missing.is_empty() {
        return Err(Finding::problem(
            "Slurm",
            format!("not found: {}; runs on Slurm cannot be submitted from here", missing.join(", ")),
            "put Slurm's programs on the PATH of moadim-mcp, or run it on a machine from which you submit jobs",
        ));
    }
    let asked = slurm.look(RECENT).result;
    let survey = asked.and_then(|_| slurm.survey(Instant::now() + SURVEY_TIMEOUT));
    survey.map_err(|cause| {
        let fix = "check the controller: scontrol ping. Runs that are alive go on";
        Finding::problem("Slurm", format!("it does not answer: {cause}"), fix)
    })
}

fn of_survey(survey: &Survey, config: &Config) -> Vec<Finding> {
    let mut findings =
        vec![Finding::well("Slurm", format!("it answers; partitions: {}", survey.partitions.join(", ")))];
    findings.extend(config.slurm_partitions.iter().filter(|name| !survey.partitions.contains(name)).map(|name| {
        Finding::problem(
            "Slurm",
            format!("there is no partition '{name}', which slurm_partitions in config.toml names"),
            format!("name some of these: {}", survey.partitions.join(", ")),
        )
    }));
    findings.extend(of_tracking(survey));
    findings.extend(of_kill_wait(survey, config.kill_grace_secs + SUPERVISOR_MARGIN.as_secs()));
    findings
}

fn of_tracking(survey: &Survey) -> Option<Finding> {
    if survey.tracks_by_cgroup() {
        return Some(Finding::well("Slurm", "it finds every process of a job (proctrack/cgroup)"));
    }
    let tracking = survey.tracking.as_ref()?;
    Some(Finding::problem(
        "Slurm",
        format!(
            "{tracking} loses processes that leave their session; after a supervisor dies, a check job must look on its node"
        ),
        "ask your site for ProctrackType=proctrack/cgroup",
    ))
}

fn of_kill_wait(survey: &Survey, needed_secs: u64) -> Option<Finding> {
    let secs = survey.kill_wait_secs.filter(|secs| *secs < needed_secs)?;
    Some(Finding::problem(
        "Slurm",
        format!(
            "KillWait is {secs} s, and a run may need {needed_secs} s to end (kill_grace_secs + {}): when Slurm ends a run, its \
             outcome may be lost",
            SUPERVISOR_MARGIN.as_secs()
        ),
        format!(
            "lower kill_grace_secs in config.toml to {}, or ask your site for a longer KillWait",
            secs.saturating_sub(SUPERVISOR_MARGIN.as_secs())
        ),
    ))
}

/// Says which machine schedules and cleans up.
pub(super) fn machine(subject: &Subject<'_>) -> Vec<Finding> {
    let context = &subject.context;
    let owner = match home_machine::owner(&context.home) {
        Ok(None) => return Vec::new(),
        Ok(Some(owner)) => owner,
        Err(error) => {
            let path = context.home.machine_file();
            return vec![Finding::problem_at(path, error.to_string(), error.fix())];
        }
    };
    let found = format!("{} schedules and cleans up (since {})", owner.name(), owner.since);
    vec![Finding::well("machine", found)]
}

/// What a node is to connect to: agents that are built in talk to such a service.
const NETWORK_PROBE: &str = "api.anthropic.com:443";

/// Has a job look at what a node is like.
pub(super) fn node(subject: &Subject<'_>) -> Vec<Finding> {
    let context = &subject.context;
    if !home_machine::uses_slurm(context) || answer(context).is_err() {
        return Vec::new();
    }
    let users = match agents_on_slurm(context) {
        Ok(users) => users,
        Err(finding) => return vec![finding],
    };
    let address = (!has_proxy(context, users.keys())).then(|| NETWORK_PROBE.to_owned());
    match probe::probe(context, users.keys().cloned().collect(), address) {
        Ok(Probed::Reported(report)) => {
            let noted = match report.locks {
                Locks::Unknown(_) => Ok(()),
                Locks::Reach => home_machine::note_reach(&context.home, &report.node, true),
                Locks::DoNotReach => home_machine::note_reach(&context.home, &report.node, false),
            };
            let noted = noted.err().map(|error| Finding::unchecked("whether locks reach other machines", &error));
            of_report(&report, &users).into_iter().chain(noted).collect()
        }
        Ok(probed) => of_silence(probed).into_iter().collect(),
        Err(error) => {
            let fix = "do what the message says; until then runs on Slurm may not start";
            vec![Finding::problem("probe job", format!("it cannot be prepared: {error:#}"), fix)]
        }
    }
}

/// Returns the agents of the enabled routines on Slurm, each with its routines.
fn agents_on_slurm(context: &Context) -> Result<BTreeMap<String, BTreeSet<String>>, Finding> {
    let page = listing::list(&context.home, &Filter::default(), None, usize::MAX)
        .map_err(|error| Finding::unchecked("which agents the routines name", &error))?;
    let mut users: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for routine in page.routines {
        if routine.definition.enabled && engine_of(&routine, &context.config) == EngineKind::Slurm {
            users.entry(routine.definition.agent.clone()).or_default().insert(routine.slug.to_string());
        }
    }
    Ok(users)
}

/// Whether an agent may reach the network by way of a proxy, which a connection of ours would not.
fn has_proxy<'a>(context: &Context, mut agents: impl Iterator<Item = &'a String>) -> bool {
    const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let has_file = |agent: &String| {
        let given = agent.parse().ok().and_then(|name| env_file::read(&context.home, &name).ok());
        given.is_some_and(|given| VARIABLES.iter().any(|name| given.contains_key(*name)))
    };
    VARIABLES.iter().any(is_set) || agents.any(has_file)
}

/// Describes a node that reported.
fn of_report(report: &Report, users: &BTreeMap<String, BTreeSet<String>>) -> Vec<Finding> {
    let node = &report.node;
    let mut findings = vec![Finding::well("probe job", format!("{node} sees the home at the same path"))];
    findings.push(match &report.locks {
        Locks::Reach => Finding::well("locks across machines", format!("{node} respects a lock held here")),
        Locks::DoNotReach => Finding::well(
            "locks across machines",
            format!("{node} does not see a lock held here, so only one machine schedules and cleans up"),
        ),
        Locks::Unknown(error) => {
            let fix = "mount the file system with locks on all machines";
            Finding::problem("locks across machines", format!("on {node}: {error}"), fix)
        }
    });
    findings.extend(report.agents.iter().map(|(agent, found)| {
        let what = format!("agent {agent} on {node}");
        match found {
            Ok(found) => Finding::well(&what, found),
            Err(error) => {
                let routines = users.get(agent).into_iter().flatten().cloned().collect::<Vec<_>>().join(", ");
                let found = format!("{error}; these routines need it on the nodes: {routines}");
                let fix = "install it where all nodes see it, or set `command` in the agent's file";
                Finding::problem(&what, found, fix)
            }
        }
    }));
    findings.extend(report.network.as_ref().map(|reached| match reached {
        Ok(()) => Finding::well("network", format!("{node} reaches {NETWORK_PROBE}")),
        Err(error) => Finding::well("network", format!("{node} does not reach {NETWORK_PROBE}: {error}"))
            .hint("agents that talk to a service fail there; use a partition with access, or set HTTPS_PROXY in their .env files"),
    }));
    findings
}

/// Describes a job that did not report.
fn of_silence(probed: Probed) -> Option<Finding> {
    let secs = PROBE_TIMEOUT.as_secs();
    Some(match probed {
        Probed::Reported(_) => return None,
        Probed::NotSubmitted(reason) => {
            let fix = "check slurm_args and slurm_partitions in config.toml; runs would be refused too";
            Finding::problem("probe job", format!("cannot submit it: {reason}"), fix)
        }
        Probed::Waits(why) => {
            let found = format!("it {why} after {secs} s; cancelled, so the nodes are unchecked");
            Finding::well("probe job", found).hint("run doctor again when the cluster is less busy")
        }
        Probed::Silent(job) => Finding::problem(
            "probe job",
            format!("it is {} on {} and has not reported within {secs} s", job.state_name, job.node),
            "check that node's load and file system",
        ),
        Probed::Ended(job, said) => Finding::problem(
            "probe job",
            format!("it ended on {} ({}) without a report{said}", job.node, job.state_name),
            "the node probably does not see this home: MOADIM_HOME must be at the same path on all nodes",
        ),
        Probed::NoAnswer(cause) => {
            Finding::problem("probe job", format!("nobody knows what became of it: {cause}"), "run doctor again")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::slurm::Job;

    fn survey(tracking: &str, kill_wait_secs: u64) -> Survey {
        Survey {
            partitions: vec!["main".to_owned()],
            tracking: Some(tracking.to_owned()),
            kill_wait_secs: Some(kill_wait_secs),
        }
    }

    #[test]
    fn a_cluster_is_well_with_control_groups_and_a_long_kill_wait() {
        let config = Config { slurm_partitions: vec!["main".to_owned()], ..Config::default() };
        let findings = of_survey(&survey("proctrack/cgroup", 30), &config);
        assert!(findings.iter().all(|finding| finding.well), "{findings:?}");
        let config = Config { slurm_partitions: vec!["gpu".to_owned()], ..config };
        let problems: Vec<_> = of_survey(&survey("proctrack/linuxproc", 14), &config)
            .into_iter()
            .filter(|finding| !finding.well)
            .map(|finding| format!("{} {}", finding.found, finding.fix.unwrap()))
            .collect();
        assert_eq!(problems.len(), 3, "{problems:?}");
        for (problem, words) in problems.iter().zip([
            ["'gpu'", "main"],
            ["proctrack/linuxproc loses", "proctrack/cgroup"],
            ["KillWait is 14 s", "kill_grace_secs in config.toml to 9"],
        ]) {
            assert!(words.iter().all(|word| problem.contains(word)), "{words:?}: {problem}");
        }
    }

    #[test]
    fn a_kill_wait_that_is_just_long_enough_is_fine() {
        assert_eq!(of_kill_wait(&survey("", 15), 15), None);
        assert!(of_kill_wait(&survey("", 14), 15).is_some());
    }

    #[test]
    fn a_missing_network_is_a_hint_and_a_missing_agent_a_problem() {
        let agents = [("a", Err("not found".to_owned())), ("b", Ok("/bin/b".to_owned()))];
        let agents = agents.map(|(agent, found)| (agent.to_owned(), found)).into();
        let report = serde_json::json!({ "token": "t", "node": "n1", "locks": "do_not_reach", "agents": {},
                                         "network": { "Err": "no answer" } });
        let mut report: Report = serde_json::from_value(report).unwrap();
        report.agents = agents;
        let users = BTreeMap::from([("a".to_owned(), BTreeSet::from(["news".to_owned()]))]);
        let findings = of_report(&report, &users);
        let problems: Vec<_> = findings.iter().filter(|finding| !finding.well).collect();
        assert!(problems.len() == 1 && problems[0].found.contains("news"), "{problems:?}");
        let network = findings.iter().find(|finding| finding.what == "network").unwrap();
        assert!(network.well && network.fix.is_some(), "{network:?}");
    }

    #[test]
    fn a_job_that_only_waits_is_no_problem() {
        let waits = of_silence(Probed::Waits("waits in Slurm's queue".to_owned())).unwrap();
        assert!(waits.well && waits.found.contains("queue after 30 s"), "{waits:?}");
        assert!(!of_silence(Probed::NoAnswer("frozen".to_owned())).unwrap().well);
        let ended = of_silence(Probed::Ended(Job::example("1", "OUT_OF_MEMORY"), String::new())).unwrap();
        assert_eq!(ended.found, "it ended on n1 (OUT_OF_MEMORY) without a report");
    }
}
