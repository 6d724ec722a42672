//! `setup`: adds this program to an agent host's configuration, or removes it, and shows the changes.

use std::io::Write;
use std::path::{Path, PathBuf};

use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use serde_json::{Value, json};

use super::app::{self, Format, print_json};
use crate::agent::{Source, find_command};
use crate::home::config::Config;
use crate::options::Permissions;
use crate::setup::{
    Entry, HOSTS, Host, Plan, RemoteProgram, SetupError, SshHost, Surroundings, check_over_ssh, config_to_edit,
};

const ADDED: Style = AnsiColor::Green.on_default();
const REMOVED: Style = AnsiColor::Red.on_default();
const PLACE: Style = AnsiColor::Cyan.on_default();

#[derive(clap::Args)]
pub(super) struct Request {
    /// The agent host; without one, list the hosts found
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(HOSTS.iter().map(|host| host.name)))]
    host: Option<String>,
    /// Show what would change, and write nothing
    #[arg(long, requires = "host")]
    dry_run: bool,
    /// Remove the entry, and leave everything else
    #[arg(long, requires = "host")]
    remove: bool,
    /// Set up the server of another machine, as ssh knows it, next to this one
    #[arg(long, value_name = "NAME", requires = "host")]
    ssh: Option<SshHost>,
    /// How the shell of the other machine finds moadim-mcp: a name on its PATH, or a path
    #[arg(long, value_name = "PROGRAM", requires = "ssh", default_value = env!("CARGO_PKG_NAME"))]
    remote_program: RemoteProgram,
    #[command(flatten)]
    format: Format,
}

pub(super) fn setup(request: &Request) -> anyhow::Result<()> {
    let here = Surroundings::current().context("the home directory is not known; set HOME")?;
    let home =
        std::env::var_os(crate::env_vars::HOME).filter(|home| !home.is_empty()).map(std::path::absolute).transpose()?;
    let local = Entry::new(&lasting_name(app::program()?.path()), home.as_deref())?;
    let mut out = anstream::stdout();
    let Some(host) = request.host.as_deref().and_then(Host::by_name) else {
        return list(&mut out, &here, &local, request.format);
    };
    let Some(machine) = &request.ssh else { return change(&mut out, host, &here, &local, request, home.as_deref()) };
    let entry = Entry::over_ssh(machine, &request.remote_program);
    if request.remove || request.dry_run {
        return change(&mut out, host, &here, &entry, request, None);
    }
    // What does not work is not written.
    let version = check_over_ssh(machine, &request.remote_program)?;
    change(&mut out, host, &here, &entry, request, None)?;
    if request.format.json {
        return Ok(());
    }
    Ok(writeln!(out, "moadim-mcp {version} answered on {machine}.")?)
}

/// Returns this program's path on PATH, if it is there: package managers keep that name, but not the file it links to.
fn lasting_name(program: &Path) -> PathBuf {
    let path = std::env::var_os("PATH").map(|path| (Source::Own, path));
    let named = find_command(env!("CARGO_PKG_NAME"), path.into_iter().collect()).map(|found| found.program);
    let is_this = |named: &PathBuf| program.canonicalize().is_ok_and(|real| named.canonicalize().ok() == Some(real));
    named.ok().filter(is_this).unwrap_or_else(|| program.to_owned())
}

/// How far a host is set up: a word for programs, and one for people.
fn state(plan: Result<Plan, SetupError>) -> (&'static str, &'static str) {
    match plan {
        Ok(plan) if !plan.changes() => ("set_up", "set up"),
        Ok(plan) if plan.had_entry => ("outdated", "set up with other settings; run setup again to update it"),
        Ok(_) => ("not_set_up", "not set up"),
        Err(_) => ("unreadable", "its configuration cannot be read"),
    }
}

fn list(out: &mut impl Write, here: &Surroundings, entry: &Entry, format: Format) -> anyhow::Result<()> {
    let found: Vec<&Host> = HOSTS.iter().filter(|host| host.is_found(here)).collect();
    if format.json {
        let describe = |host: &&Host| {
            let file = config_to_edit(host, here, entry.name());
            let (state, _) = state(Plan::adding(host, &file, entry));
            json!({ "host": host.name, "title": host.title, "state": state, "file": file })
        };
        return print_json(&json!({ "hosts": found.iter().map(describe).collect::<Vec<Value>>() }));
    }
    if found.is_empty() {
        let hint =
            "No agent host found. To write a configuration anyway, name a host, for example: moadim-mcp setup cursor";
        return Ok(writeln!(out, "{hint}")?);
    }
    for host in found {
        let config = config_to_edit(host, here, entry.name());
        let (_, state) = state(Plan::adding(host, &config, entry));
        writeln!(out, "{:<14}  {state}  ({})", host.name, config.display())?;
    }
    Ok(writeln!(out, "\nTo set one up: moadim-mcp setup <host>; add --dry-run to only show what would change.")?)
}

fn change(
    out: &mut impl Write,
    host: &Host,
    here: &Surroundings,
    entry: &Entry,
    request: &Request,
    home: Option<&Path>,
) -> anyhow::Result<()> {
    let config = &config_to_edit(host, here, entry.name());
    let plan = if request.remove { Plan::removing(host, config, entry)? } else { Plan::adding(host, config, entry)? };
    if request.format.json {
        let is_written = plan.changes() && !request.dry_run;
        let mut answer = json!({
            "host": host.name, "file": plan.path, "changes": plan.changes(), "written": is_written, "diff": plan.diff(),
        });
        if is_written && let Some(backup) = plan.apply()? {
            answer["backup"] = json!(backup);
        }
        return print_json(&answer);
    }
    if !plan.changes() {
        let (title, path) = (host.title, plan.path.display());
        return if request.remove {
            Ok(writeln!(out, "{title} has no {} entry; nothing changes in {path}.", entry.name())?)
        } else {
            writeln!(out, "{title} is set up already; nothing changes in {path}.")?;
            show_unattended(out, host, entry)
        };
    }
    // Written before anything is shown: a reader that goes away, as in `| head`, ends the command.
    let written = if request.dry_run { None } else { Some(plan.apply()?) };
    writeln!(out, "{}", plan.path.display())?;
    show(out, &plan.diff())?;
    let Some(backup) = written else {
        return Ok(writeln!(out, "Nothing was written.")?);
    };
    match backup {
        Some(backup) => writeln!(out, "Written. The previous file is kept as {}", backup.display())?,
        None => writeln!(out, "Written.")?,
    }
    writeln!(out, "Restart {} for it to take effect.", host.title)?;
    if request.remove {
        return Ok(());
    }
    show_unattended(out, host, entry)?;
    if request.ssh.is_none() { show_permissions(out, home) } else { Ok(()) }
}

/// Shows what agents may do, and what lets them do more.
fn show_permissions(out: &mut impl Write, home: Option<&Path>) -> anyhow::Result<()> {
    let file = home.map_or_else(|| PathBuf::from("~/.moadim"), Path::to_owned).join("config.toml");
    // One that cannot be read is named by the tools.
    let Ok(Config { max_permissions: max, .. }) = Config::load(&file) else { return Ok(()) };
    let meaning = max.meaning();
    writeln!(out, "Agents get permissions up to \"{max}\": {meaning}. See: moadim-mcp agents")?;
    if max < Permissions::Full {
        writeln!(out, "To allow everything: max_permissions = \"full\" in {}.", file.display())?;
    }
    Ok(())
}

/// Shows what lets the host use our tools while nobody is there, where that is known.
fn show_unattended(out: &mut impl Write, host: &Host, entry: &Entry) -> anyhow::Result<()> {
    match host.unattended(entry.name()) {
        Some(line) => Ok(writeln!(out, "To let {} use the tools without asking you: {line}.", host.title)?),
        None => Ok(()),
    }
}

fn show(out: &mut impl Write, diff: &str) -> std::io::Result<()> {
    for line in diff.lines() {
        let style = match line.bytes().next() {
            Some(b'+') => ADDED,
            Some(b'-') => REMOVED,
            Some(b'@') => PLACE,
            _ => Style::new(),
        };
        writeln!(out, "{style}{line}{style:#}")?;
    }
    Ok(())
}
