//! How a home is: what is in use, how many runs there are, and everything that is wrong, with its cure.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;

use super::status::{Duty, Round, Status};
use super::{company, locks, remove};
use crate::agent::{Agent, Registry, SearchPath, env_file};
use crate::clock::UnixSeconds;
use crate::environment::{self, EnvName};
use crate::home::Home;
use crate::home::atomic_file::FileError;
use crate::logging;
use crate::query::listing;
use crate::routine::known::Look;
use crate::routine::slug::Slug;
use crate::routine::store;
use crate::routine::zone;
use crate::run::context::{App, Context};
use crate::run::environment::{check_accepted, missing};
use crate::run::history;
use crate::run::status::Status as RunStatus;
use crate::session::HostKind;

/// How a home is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Health {
    /// This program's version.
    pub version: String,
    /// The home's directory.
    pub home: String,
    /// Where runs can be watched.
    pub session_host: HostKind,
    /// Why there.
    pub session_host_reason: String,
    /// The version of the terminal multiplexer, if it is in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmux_version: Option<String>,
    /// The watchdog's passes.
    pub watchdog: Passes,
    /// The sweeps.
    pub sweep: Passes,
    /// The looks at what is due by its schedule.
    pub scheduler: Passes,
    /// How many routines can be read.
    pub routines: usize,
    /// How many runs there are, by status.
    pub runs: BTreeMap<RunStatus, usize>,
    /// Disk used by all workbenches.
    pub workbench_bytes: u64,
    /// Whether that is all: false if measuring took too long.
    pub workbench_bytes_complete: bool,
    /// What is wrong; empty when all is well. A tool shows the first 100.
    pub problems: Vec<Problem>,
    /// How many problems there are.
    pub problems_total: usize,
}

/// When one of the janitor's loops was and will be at work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Passes {
    /// The end of the last pass of this process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<UnixSeconds>,
    /// The begin of the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<UnixSeconds>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Problem {
    /// The file or directory, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub fix: String,
}

/// How long measuring the workbenches may take.
const MEASURING_PATIENCE: Duration = Duration::from_secs(2);

/// Looks at everything; takes a few seconds at most.
///
/// # Errors
/// A folder of the home cannot be listed.
pub fn examine(app: &App, status: &Status, search_path: Option<&SearchPath>) -> Result<Health, FileError> {
    let mut problems = Vec::new();
    problems.extend(app.context().err().map(|error| of_settings(app, &error)));
    let context = app.context_for_looking();
    problems.extend(of_the_place(&context));
    problems.extend(locks::stuck(&context.home).into_iter().map(of_a_lock));
    let company = company::of(&context.home);
    problems.extend(company.iter().filter_map(of_a_companion));
    problems.extend(search_path.and_then(SearchPath::problem).map(|problem| {
        Problem {
            path: None,
            problem: problem.to_owned(),
            fix: "as it says; see the shell's start-up files too. Agents with login_shell = false start without it"
                .to_owned(),
        }
    }));
    problems.extend(history::check(&context.home).err().as_ref().map(damaged));
    problems.extend(damaged_lines(&context));
    let registry = Registry::load(&context.home)?;
    problems.extend(registry.problems().map(damaged));
    problems.extend(registry.agents().flat_map(|agent| of_an_environment(&context.home, agent, &company)));
    let routines = of_routines(&context, &registry, &mut problems)?;
    let runs = of_runs(&context, &mut problems)?;
    let [watchdog, sweep, scheduler] = [Duty::Watchdog, Duty::Sweep, Duty::Schedule].map(|duty| status.round(duty));
    for round in [&watchdog, &sweep, &scheduler] {
        problems.extend(of_a_round(round));
    }
    problems.extend(of_the_log(logging::dropped()));
    let stop_at = Instant::now() + MEASURING_PATIENCE;
    let disk = remove::measure(context.home.root(), "workbenches".as_ref(), &|| Instant::now() >= stop_at);
    Ok(Health {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        home: context.home.root().display().to_string(),
        session_host: context.session_host.kind(),
        session_host_reason: context.session_host.why().to_owned(),
        tmux_version: context.session_host.version(),
        watchdog: Passes { last: watchdog.last, next: watchdog.next },
        sweep: Passes { last: sweep.last, next: sweep.next },
        scheduler: Passes { last: scheduler.last, next: scheduler.next },
        routines,
        runs,
        workbench_bytes: disk.bytes,
        workbench_bytes_complete: disk.complete,
        problems_total: problems.len(),
        problems,
    })
}

/// Moving them away is no way out: what a person wrote there may be what keeps a run or a workbench.
fn of_settings(app: &App, error: &FileError) -> Problem {
    let path = Some(app.home().config_file().display().to_string());
    let fix = "mend the file; without it the defaults hold, by which runs may end and workbenches go sooner".to_owned();
    Problem { path, problem: error.to_string(), fix }
}

fn damaged(error: &FileError) -> Problem {
    let path = match error {
        FileError::Io { path, .. } | FileError::Damaged { path, .. } => path.display().to_string(),
    };
    let fix = format!("mend the file, or move it away: mv '{path}' '{path}.damaged'");
    Problem { path: Some(path), problem: error.to_string(), fix }
}

fn damaged_lines(context: &Context) -> Option<Problem> {
    let count = context.history.read(&context.home).ok()?.damaged();
    (count > 0).then(|| Problem {
        path: Some(context.home.history_file().display().to_string()),
        problem: format!("{count} lines of the history cannot be read; they are skipped"),
        fix: "mend or remove them; the files are history*.jsonl".to_owned(),
    })
}

fn of_the_place(context: &Context) -> Vec<Problem> {
    let home = Some(context.home.root().display().to_string());
    let unsafe_home = context.home.check_sole_and_lockable().err().map(|error| Problem {
        path: home.clone(),
        problem: error.to_string(),
        fix: "as it says; until then nothing is triggered or removed here".to_owned(),
    });
    let program = context.program.check().err().map(|error| Problem {
        path: Some(context.program.path().display().to_string()),
        problem: error.to_string(),
        fix: "restart the host that runs this server".to_owned(),
    });
    // Asked for and not to be had: nothing can be triggered.
    let without = context.session_host.kind().has_windows() && context.session_host.version().is_none();
    let session = without.then(|| Problem {
        path: Some(context.home.config_file().display().to_string()),
        problem: context.session_host.why().to_owned(),
        fix: "install it and restart the server, or set session_host = \"auto\"".to_owned(),
    });
    [unsafe_home, program, session].into_iter().flatten().collect()
}

fn of_a_lock(stuck: locks::Stuck) -> Problem {
    let locks::Stuck { path, problem, fix } = stuck;
    Problem { path: Some(path.display().to_string()), problem, fix }
}

fn of_a_companion(companion: &company::Companion) -> Option<Problem> {
    let (problem, fix) = companion.trouble()?;
    Some(Problem { path: None, problem, fix: fix.to_owned() })
}

/// Names what an agent is to inherit and a process that may start it does not have, and what is wrong with its `.env` file.
fn of_an_environment(home: &Home, agent: &Agent, company: &[company::Companion]) -> Vec<Problem> {
    let file = env_file::path(home, &agent.name).display().to_string();
    let given = match env_file::read(home, &agent.name) {
        Ok(given) => given,
        Err(error) => {
            let fix = "as it says; until then the agent is not started".to_owned();
            return vec![Problem { path: Some(file), problem: error.to_string(), fix }];
        }
    };
    let given = |name: &EnvName| given.contains_key(name) || agent.definition.env.contains_key(name);
    let ours = environment::of_this_process();
    let lack = |who: String, has: &dyn Fn(&EnvName) -> bool| -> Option<Problem> {
        let names: Vec<String> = missing(agent, |name| given(name) || has(name)).map(ToString::to_string).collect();
        (!names.is_empty()).then(|| Problem {
            path: Some(file.clone()),
            problem: format!(
                "{} of inherit_env of the agent '{}' is not set in {who}: runs that it starts lack it{}",
                names.join(", "),
                agent.name,
                if agent.definition.login_shell { ", unless a start-up file sets it" } else { "" }
            ),
            fix: format!("write NAME=value into {file} (chmod 600), or set it where that process is started"),
        })
    };
    let us = lack(format!("this process (pid {})", std::process::id()), &|name| ours.contains_key(name));
    let others = company.iter().filter(|one| !one.variables.is_empty());
    let others = others.filter_map(|one| lack(format!("the {one}"), &|name| one.variables.contains(&name.to_string())));
    us.into_iter().chain(others).collect()
}

fn of_the_log(dropped: u64) -> Option<Problem> {
    (dropped > 0).then(|| Problem {
        path: None,
        problem: format!("{dropped} log messages were dropped, because nobody reads the stderr of this process"),
        fix: "have the host read it, or send it to a file: \"command\": \"sh\", \"args\": [\"-c\", \"exec moadim-mcp \
              2>>~/moadim.log\"]; RUST_LOG=error logs less"
            .to_owned(),
    })
}

/// Counts the routines that can be read, and names what is wrong with any.
fn of_routines(context: &Context, registry: &Registry, problems: &mut Vec<Problem>) -> Result<usize, FileError> {
    let Context { home, config, routines, .. } = context;
    routines.refresh(home, Look::All)?;
    let (mut readable, mut prompts, mut limits, mut refused) = (0, Vec::new(), Vec::new(), Vec::new());
    let mut by_machine_zone = 0;
    routines.each(|routine| {
        by_machine_zone += usize::from(routine.plan().is_ok_and(|plan| plan.follows_machine_zone));
        problems.extend(routine.damage().map(damaged));
        prompts.extend(routine.prompt_damage().map(damaged));
        prompts.extend(routine.has_empty_prompt().then(|| of_empty_prompt(&store::prompt_file(home, routine.slug()))));
        readable += usize::from(routine.limits().is_some());
        if let Some(problem) = routine.limits().and_then(|limits| limits.note(config)) {
            let path = Some(store::definition_file(home, routine.slug()).display().to_string());
            let fix = "lower the value, or raise the ceiling in config.toml".to_owned();
            limits.push(Problem { path, problem, fix });
        }
        if let Some(fault) = routine.schedule_fault() {
            let path = Some(store::definition_file(home, routine.slug()).display().to_string());
            let problem = format!("its schedule is written as nobody means it: {fault}");
            limits.push(Problem {
                path,
                problem,
                fix: "write it as it says; until then it fires as list_routines says".to_owned(),
            });
        }
        // An agent that is not there is a trigger's and the doctor's to name.
        if let Some(set) = routine.set_by_tools()
            && let Some(agent) = set.agent.parse().ok().and_then(|name| registry.get(&name).ok())
            && let Err(not) = check_accepted(home, routine.slug(), &set.names, &agent)
        {
            let path = Some(store::definition_file(home, routine.slug()).display().to_string());
            let problem =
                format!("it cannot run: the agent '{}' does not accept {} in `env`", not.agent(), not.names());
            refused.push(Problem { path, problem, fix: not.ways_out() });
        }
    });
    problems.extend(of_machine_zone(by_machine_zone));
    problems.extend(store::misnamed(home)?.iter().map(|path| of_misnamed(path)));
    problems.extend(refused);
    problems.extend(prompts);
    problems.extend(limits);
    Ok(readable)
}

fn of_runs(context: &Context, problems: &mut Vec<Problem>) -> Result<BTreeMap<RunStatus, usize>, FileError> {
    let mut counts = BTreeMap::new();
    for run in listing::all(context)? {
        *counts.entry(run.status).or_insert(0) += 1;
        // An unfinished run that has something to say of itself is one that needs a look.
        let troubled = run.finished_at.is_none().then_some(run.status_reason).flatten();
        if let Some(reason) = troubled {
            let fix = match run.status {
                RunStatus::Unknown if let Some(at) = run.reap_at => {
                    format!("nothing need be done: a sweep from {at} on that finds nothing alive in it removes it")
                }
                RunStatus::Unknown => {
                    format!(
                        "it is neither ended nor removed; once you know that it is over: moadim-mcp forget {}",
                        run.id
                    )
                }
                _ => format!("the watchdog ends it at its bound; stop_run (moadim-mcp stop {}) ends it now", run.id),
            };
            problems.push(Problem { path: Some(run.workbench), problem: format!("run {}: {reason}", run.id), fix });
        }
    }
    Ok(counts)
}

fn of_a_round(round: &Round) -> impl Iterator<Item = Problem> {
    round.troubles.iter().map(|trouble| Problem {
        path: trouble.path.clone(),
        problem: trouble.problem.clone(),
        fix: "mend what it names; the next pass tries again".to_owned(),
    })
}

/// Names a machine without a known time zone, where a schedule goes by it.
fn of_machine_zone(schedules: usize) -> Option<Problem> {
    let cause = zone::of_machine().unknown.filter(|_| schedules > 0)?;
    Some(Problem {
        path: Some(zone::LOCALTIME.to_owned()),
        problem: format!(
            "the machine's time zone is not known ({cause}), so schedules without a `timezone` go by UTC: {schedules}"
        ),
        fix: "set it, such as by: ln -sf /usr/share/zoneinfo/Europe/Berlin /etc/localtime; or give those routines a \
              `timezone`"
            .to_owned(),
    })
}

fn of_misnamed(path: &Path) -> Problem {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let slug = Slug::from_title(&name).filter(|slug| !path.with_file_name(slug.as_str()).exists());
    let new = path.with_file_name(slug.as_ref().map_or("another-name", Slug::as_str));
    let quoted = |path: &Path| path.display().to_string().replace('\'', r"'\''");
    Problem {
        path: Some(path.display().to_string()),
        problem: "it is no routine, because its name is no slug: lower-case letters, digits and single dashes"
            .to_owned(),
        fix: format!("rename it: mv '{}' '{}'; or move it out of routines/", quoted(path), quoted(&new)),
    }
}

fn of_empty_prompt(path: &Path) -> Problem {
    Problem {
        path: Some(path.display().to_string()),
        problem: "it is empty, so the routine cannot run".to_owned(),
        fix: "write what the agent is to do".to_owned(),
    }
}
