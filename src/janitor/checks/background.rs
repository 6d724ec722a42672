//! Checks of what works in the background: the other servers and janitors, the service, this process's passes and log.

use super::{Finding, Subject};
use crate::archive;
use crate::git::Work;
use crate::janitor::heartbeat::Beat;
use crate::janitor::stores;
use crate::janitor::unsaved::{NO_ROOM, Problem};
use crate::logging;
use crate::run::id::RunId;
use crate::run::janitor_status::Duty;
use crate::run::workbench::Workbench;
use crate::service::{Kind, Service, State};

/// Names the other servers and janitors; without any, nothing fires.
pub(super) fn peers(subject: &Subject<'_>) -> Vec<Finding> {
    let names: Vec<String> = subject.peers.iter().map(ToString::to_string).collect();
    let nobody = "no server or janitor is running, so nothing is scheduled or cleaned up";
    vec![match names.is_empty() {
        false => Finding::well("background", names.join(", ")),
        true if subject.is_anything_scheduled() => Finding::problem(
            "background",
            nobody,
            "open a host, or have a janitor run always: moadim-mcp service install",
        ),
        true => Finding::well("background", nobody),
    }]
}

/// Names those of another version.
pub(super) fn versions(subject: &Subject<'_>) -> Vec<Finding> {
    let problems = subject.peers.iter().filter_map(|peer| peer.version_problem());
    problems.map(|(problem, fix)| Finding::problem("background", problem, fix)).collect()
}

pub(super) fn service(_: &Subject<'_>) -> Vec<Finding> {
    let dashboard = Service::of_this_user(Kind::Dashboard).and_then(|service| service.state());
    let dashboard = dashboard.ok().filter(|state| state.installed && !state.active).map(|state| {
        let problem = format!("the dashboard's service is installed but not running: {}", state.detail);
        // Installed again, it keeps its port.
        Finding::problem("service", problem, "moadim-mcp service install --dashboard")
    });
    std::iter::once(service_state()).chain(dashboard).collect()
}

pub(super) fn service_state() -> Finding {
    match Service::of_this_user(Kind::Janitor).and_then(|service| service.state()) {
        Ok(state) => of_service(&state),
        Err(error) => Finding::problem("service", error.to_string(), "moadim-mcp service status"),
    }
}

fn of_service(state: &State) -> Finding {
    let install = "moadim-mcp service install";
    match (state.installed, state.active) {
        (false, _) => Finding::well("service", "not installed: the janitor works while a host is open")
            .hint(format!("to have it run always: {install}")),
        (true, false) => Finding::problem("service", format!("installed but not running: {}", state.detail), install),
        (true, true) if state.lingers == Some(false) => {
            Finding::problem("service", "running, but stops when you log out", "loginctl enable-linger")
        }
        (true, true) => Finding::well("service", "running"),
    }
}

pub(super) fn passes(subject: &Subject<'_>) -> Vec<Finding> {
    let passes = [Duty::Watchdog, Duty::Sweep, Duty::Schedule].map(|duty| subject.app.janitor.passes(duty));
    let troubles = passes.into_iter().flat_map(|passes| passes.troubles);
    let fix = "fix what it names; the next pass tries again";
    let finding = |path: Option<String>, problem: String| match path {
        Some(path) => Finding::problem_at(path, problem, fix),
        None => Finding::problem("background", problem, fix),
    };
    troubles.map(|trouble| finding(trouble.path, trouble.problem)).collect()
}

pub(super) fn heartbeat(subject: &Subject<'_>) -> Vec<Finding> {
    let Some(beat) = Beat::read(&subject.context.home) else { return Vec::new() };
    let downtime = beat.downtime.map_or_else(String::new, |downtime| format!("; {downtime}"));
    let mut findings = vec![Finding::well("scheduler", format!("last pass about {}{downtime}", beat.at))];
    if let Some(failure) = beat.failure.filter(|_| !subject.context.config.heartbeat.is_empty()) {
        let problem = format!("the command `heartbeat` failed: {}", failure.problem);
        let fix = "correct it, or remove it; it runs again within a minute";
        findings.push(Finding::problem_at(subject.context.home.config_file(), problem, fix));
    }
    findings
}

/// Reports workbenches that stay because what they hold cannot be archived: known from the end of the run, or tried.
pub(super) fn unarchived(subject: &Subject<'_>) -> Vec<Finding> {
    let home = &subject.context.home;
    let finding = |(run, reason): (RunId, String)| {
        let fix = format!("moadim-mcp recover {run}, or, if nothing in it matters: moadim-mcp cleanup --discard {run}");
        let workbench = Workbench::of(home, &run);
        Finding::problem_at(
            workbench.directory(),
            format!("it stays, because what it holds cannot be archived: {reason}"),
            fix,
        )
    };
    let full = (!stores::has_room(&subject.context)).then(|| {
        let fix = "raise max_archive_bytes in config.toml, or wait until some are older than 7 days";
        Finding::problem_at(home.archive(), format!("new work stays in its workbench: {NO_ROOM}"), fix)
    });
    let tried = Problem::all(home);
    let is_known = |run: &RunId| tried.iter().any(|problem| problem.run == *run);
    let is_there = |run: &RunId| Workbench::of(home, run).exists() && !archive::has_been_recovered(home, run);
    let seen = subject.runs.iter().filter_map(|run| Some((run, run.work.iter().find_map(why_not_archivable)?)));
    let seen = seen.filter(|(run, _)| run.finished_at.is_some() && !is_known(&run.id) && is_there(&run.id));
    let seen = seen.map(|(run, reason)| (run.id.clone(), reason));
    tried
        .iter()
        .map(|problem| (problem.run.clone(), problem.reason.clone()))
        .chain(seen)
        .map(finding)
        .chain(full)
        .collect()
}

fn why_not_archivable(work: &Work) -> Option<String> {
    work.unreadable.clone().or_else(|| work.not_archivable.clone()).map(|reason| format!("{}: {reason}", work.path))
}

pub(super) fn log(_: &Subject<'_>) -> Vec<Finding> {
    let dropped = logging::dropped();
    let problem = (dropped > 0).then(|| {
        Finding::problem(
            "log",
            format!("{dropped} log messages were dropped, because nobody reads the stderr of this process"),
            "have the host read it, or send it to a file: \"command\": \"sh\", \"args\": [\"-c\", \"exec moadim-mcp \
             2>>~/moadim.log\"]; RUST_LOG=error logs less",
        )
    });
    problem.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_a_problem_when_it_is_wanted_and_not_running_or_not_for_long() {
        let state = |installed, active, lingers| State {
            manager: "systemd",
            file: "/f".to_owned(),
            installed,
            active,
            detail: "failed".to_owned(),
            lingers,
        };
        assert!(of_service(&state(false, false, Some(false))).well);
        assert!(of_service(&state(true, true, Some(true))).well && of_service(&state(true, true, None)).well);
        assert_eq!(of_service(&state(true, false, None)).fix.as_deref(), Some("moadim-mcp service install"));
        assert_eq!(of_service(&state(true, true, Some(false))).fix.as_deref(), Some("loginctl enable-linger"));
    }
}
