//! Checks of the routines and their runs.

use std::path::Path;

use super::{Finding, Subject};
use crate::routine::prompt;
use crate::routine::slug::Slug;
use crate::routine::store;
use crate::routine::zone;
use crate::run::context::Context;
use crate::run::environment::check_accepted;
use crate::run::status::Status;

pub(super) fn routines(subject: &Subject<'_>) -> Vec<Finding> {
    let Context { home, config, routines, .. } = &subject.context;
    let runs: Vec<String> =
        subject.runs_by_status().iter().map(|(status, count)| format!("{count} {status}")).collect();
    let found = format!("routines: {}; runs: {}", subject.readable_routines(), runs.join(", "));
    let mut findings = vec![Finding::well("routines and runs", found)];
    let mut by_machine_zone = 0;
    for routine in &routines.known().summaries {
        let file = || store::definition_file(home, routine.slug());
        by_machine_zone += usize::from(routine.plan().is_ok_and(|plan| plan.follows_machine_zone));
        findings.extend(routine.damage().map(Finding::damaged));
        let Some(definition) = routine.readable() else { continue };
        findings.extend(routine.prompt_damage().map(Finding::damaged));
        if routine.has_empty_prompt() {
            let prompt = prompt::file(home, routine.slug());
            let fix = "write what the agent should do";
            findings.push(Finding::problem_at(prompt, "it is empty, so the routine cannot run", fix));
        }
        if let Some(problem) = definition.limits.note(config) {
            let fix = "lower the value, or raise the ceiling in config.toml";
            findings.push(Finding::problem_at(file(), problem, fix));
        }
        if let Some(fault) = &definition.schedule_fault {
            let problem = format!("its schedule does not mean what it seems to say: {fault}");
            let fix = "change it as the message says; until then it fires as list_routines says";
            findings.push(Finding::problem_at(file(), problem, fix));
        }
        // `agents::commands` reports an agent that does not exist.
        if let Some(set) = &definition.set_by_tools
            && let Some(agent) = set.agent.parse().ok().and_then(|name| subject.registry.as_ref()?.get(&name).ok())
            && let Err(not) = check_accepted(home, routine.slug(), &set.names, &agent)
        {
            let problem = format!("it cannot run: the agent '{}' does not accept {} in `env`", not.agent, not.names);
            findings.push(Finding::problem_at(file(), problem, not.ways_out()));
        }
    }
    findings.extend(of_machine_zone(by_machine_zone));
    match store::misnamed(home) {
        Ok(misnamed) => findings.extend(misnamed.iter().map(|path| of_misnamed(path))),
        Err(error) => findings.push(Finding::unchecked("the names of the routines' folders", &error)),
    }
    findings
}

/// Reports a machine without a known time zone where a schedule depends on it.
fn of_machine_zone(schedules: usize) -> Option<Finding> {
    let cause = zone::of_machine().unknown.filter(|_| schedules > 0)?;
    Some(Finding::problem_at(
        zone::LOCALTIME,
        format!(
            "the machine's time zone is not known ({cause}), so schedules without a `timezone` go by UTC: {schedules}"
        ),
        "set it, for example: ln -sf /usr/share/zoneinfo/Europe/Berlin /etc/localtime; or give those routines a `timezone`",
    ))
}

fn of_misnamed(path: &Path) -> Finding {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let slug = Slug::from_title(&name).filter(|slug| !path.with_file_name(slug.as_str()).exists());
    let new = path.with_file_name(slug.as_ref().map_or("another-name", Slug::as_str));
    let quoted = |path: &Path| path.display().to_string().replace('\'', r"'\''");
    Finding::problem_at(
        path,
        "not a routine: its name is not a slug (lower-case letters, digits and single dashes)",
        format!("rename it: mv '{}' '{}'; or move it out of routines/", quoted(path), quoted(&new)),
    )
}

/// Reports unfinished runs that need a look: those with a reason for their status.
pub(super) fn runs(subject: &Subject<'_>) -> Vec<Finding> {
    let unfinished = subject.runs.iter().filter(|run| run.finished_at.is_none());
    let troubled = unfinished.filter_map(|run| Some((run, run.status_reason.as_ref()?)));
    let finding = troubled.map(|(run, reason)| {
        let id = &run.id;
        let fix = match (run.status, run.reap_at) {
            (Status::Unknown, Some(at)) => {
                format!("nothing to do: a sweep after {at} removes it unless a process in it is alive")
            }
            (Status::Unknown, None) => {
                format!(
                    "once you know that it is over: moadim-mcp forget {id}; until then it is neither ended nor removed"
                )
            }
            _ => format!("the watchdog ends it at its bound; stop_run (moadim-mcp stop {id}) ends it now"),
        };
        Finding::problem_at(&run.workbench, format!("run {id}: {reason}"), fix)
    });
    finding.collect()
}
