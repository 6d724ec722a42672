//! The story itself. Each step calls a tool, shows a few lines of its answer, and checks it.

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::deadline::Deadline;
use super::screen::{Row, Screen};
use super::stage::ended;
use crate::janitor::watchdog;
use crate::mcp::tool::call_by_name;
use crate::process_tree::{Scan, names};
use crate::run::context::App;
use crate::run::entry::Entry;
use crate::run::id::RunId;

/// Takes long enough to be seen while it runs, also on a busy machine.
const HELLO: &str = "echo \"hello from $MOADIM_RUN\"\nsleep 3\necho done | tee result.txt\n";

/// Ignores TERM, and starts children of all sorts that do so too. They would end by themselves after a while.
const HANG: &str = "\
trap '' TERM HUP
echo 'I never finish, and I ignore TERM.'
sleep 120 &
nohup sleep 120 &
(sleep 120 & sleep 120) &
wait
";

/// Asks a person, and goes on with the answer.
const ASK: &str = "\
if [ -f answer.md ]; then
    read -r answer < answer.md
    read -r draft < draft.txt
    echo \"Going on with: $answer, and $draft\"
    exit
fi
echo 'the draft from before' > draft.txt
printf 'Which colour should the button have?\\n\\n- green\\n- blue\\n' > question.md
";

/// Retention of the run that expires before the story ends, in seconds.
const SHORT_TTL: u64 = 5;

/// Bound of the runs that hang, in seconds: while they are shown, and in the end.
const LONG_RUNTIME: u64 = 600;
const SHORT_RUNTIME: u64 = 2;

/// Elsewhere the system hides the environment of its own programs, so orphans are not always recognised.
const ORPHANS_ARE_SEEN: bool = cfg!(target_os = "linux");

pub(super) fn tell(app: &App, screen: &mut Screen, deadline: &Deadline) -> anyhow::Result<()> {
    screen.heading(&format!("moadim-mcp {}: the life of a routine", env!("CARGO_PKG_VERSION")))?;
    screen.note(&format!("In a temporary home, {}, which is removed at the end.", app.home.root().display()))?;
    screen.note("> is a tool that an agent host calls, < is what it answers.")?;
    let mut story = Story { app, screen, deadline };
    story.show_health()?;
    story.show_agents()?;
    let hello = story.run_one_to_its_end()?;
    story.dry_run_keeps(&hello)?;
    let asked = story.answer_a_question()?;
    let hung = story.end_what_hangs()?;
    story.remove_what_expired(&hello, &hung, &asked)
}

struct Story<'a> {
    app: &'a App,
    screen: &'a mut Screen,
    deadline: &'a Deadline,
}

type Arguments<'a> = &'a [(&'static str, Value)];

impl Story<'_> {
    fn show_health(&mut self) -> anyhow::Result<()> {
        self.screen.step("The server reports where runs can be watched")?;
        let health = self.ask("health", &[])?;
        let host = format!("{}: {}", text(&health, "session_host")?, text(&health, "session_host_reason")?);
        self.screen.answered("it is healthy", &[("session_host", host)])
    }

    fn show_agents(&mut self) -> anyhow::Result<()> {
        self.screen.step("Agents are commands that a person registered; here agents/shell.toml, only for the demo")?;
        let answer = self.ask("list_agents", &[])?;
        let mut rows = Vec::new();
        for agent in list(&answer, "agents")? {
            let available = if agent["available"] == true { "" } else { ", not installed here" };
            rows.push(("agent", format!("{:7} {}{available}", text(agent, "name")?, text(agent, "defined_in")?)));
            ensure!(agent["name"] != "shell" || agent["available"] == true, "sh is not available: {agent}");
        }
        self.screen.answered(&format!("{} agents", rows.len()), &rows)
    }

    fn run_one_to_its_end(&mut self) -> anyhow::Result<String> {
        self.screen.step("A routine is a saved prompt, an agent, and limits")?;
        let slug = self.create("Say hello", HELLO, SHORT_TTL, 60)?;
        self.screen.step("Each trigger makes a run, in a workbench of its own")?;
        let run = self.trigger(&slug, "skip")?;
        let id = text(&run, "id")?;
        self.screen.step("The call has returned, the run goes on")?;
        let runs = self.ask("list_runs", &[("routine", json!(slug))])?;
        let shown = find(&runs, "runs", "id", &id)?;
        ensure!(shown["status"] == "running", "the run should be running: {shown}");
        self.screen.answered("one run", &[("status", "running".into())])?;
        let over = self.await_end(&id)?;
        ensure!(over["status"] == "succeeded", "the run should have succeeded: {over}");
        self.screen.answered("a moment later", &rows(&over, &["status", "exit_code", "duration_secs", "reap_at"])?)?;
        self.screen.step("What its agent printed")?;
        let log = text(&self.ask("read_log", &[("run", json!(id))])?, "text")?;
        ensure!(log.contains(&format!("hello from {id}")) && log.contains("done"), "the log is not whole: {log:?}");
        self.screen.answered("the log", &[("text", log)])?;
        Ok(id)
    }

    fn dry_run_keeps(&mut self, run: &str) -> anyhow::Result<()> {
        self.screen.step("What would a cleanup do now? Nothing: the retention has not passed")?;
        let report = self.ask("cleanup_workbenches", &[("dry_run", json!(true))])?;
        let kept = find(&report, "kept", "run", run)?;
        let reason = text(kept, "reason")?;
        self.show_report(&report)?;
        ensure!(list(&report, "removed")?.is_empty(), "nothing should go yet: {report}");
        ensure!(reason.contains("is kept for"), "it should be kept for its retention: {reason}");
        Ok(())
    }

    /// Returns the run that asked, whose workbench stays, and the one that went on.
    fn answer_a_question(&mut self) -> anyhow::Result<[String; 2]> {
        self.screen.step("A run that needs a decision asks, and ends")?;
        let slug = self.create("Paint the button", ASK, 3600, 60)?;
        let asked = text(&self.trigger(&slug, "skip")?, "id")?;
        let over = self.await_run("the end of the run that asks", &asked, "finished_at")?;
        ensure!(over["status"] == "asked", "the run should have asked: {over}");
        let options = list(&over["question"], "options")?.iter().map(plain).collect::<Vec<_>>().join(", ");
        let mut shown = rows(&over, &["status"])?;
        shown.extend([("question", text(&over["question"], "text")?), ("options", options)]);
        shown.extend(rows(&over, &["kept_because"])?);
        self.screen.answered(&asked, &shown)?;
        self.screen.step("Hours later a person answers, and another run goes on in the same workbench")?;
        let mut answer = self.ask("continue_run", &[("run", json!(asked)), ("text", json!("blue"))])?;
        let next = text(&answer["run"].take(), "id")?;
        let over = self.await_run("the end of the run that goes on", &next, "finished_at")?;
        ensure!(over["status"] == "succeeded" && over["continues"] == *asked, "it should have gone on: {over}");
        let log = text(&self.call("read_log", &[("run", json!(next))])?, "text")?;
        ensure!(log.contains("Going on with: blue") && log.contains("the draft from before"), "its log: {log:?}");
        let mut shown = rows(&over, &["status", "continues"])?;
        shown.push(("log", log));
        self.screen.answered(&next, &shown)?;
        Ok([asked, next])
    }

    fn end_what_hangs(&mut self) -> anyhow::Result<Vec<String>> {
        self.screen.step("An agent that hangs and ignores TERM, and so do its children")?;
        let slug = self.create("Hang for ever", HANG, 3600, LONG_RUNTIME)?;
        let mut runs = vec![text(&self.trigger(&slug, "skip")?, "id")?];
        if ORPHANS_ARE_SEEN {
            self.screen.step("Another one, whose supervisor is killed, as if out of memory")?;
            let orphan = text(&self.trigger(&slug, "allow")?, "id")?;
            self.kill_supervisor(&orphan)?;
            runs.push(orphan);
        }
        let cookies =
            runs.iter().map(|run| Ok(self.entry(run)?.manifest()?.cookie)).collect::<anyhow::Result<Vec<_>>>()?;
        for (run, cookie) in runs.iter().zip(&cookies) {
            let alive = self.deadline.poll(&format!("{run} to be alive, with its children"), || {
                Ok(Some(Scan::take_twice()?.carriers(cookie)).filter(|alive| alive.len() > 1))
            })?;
            self.screen.answered(run, &[("alive", format!("{} processes: {}", alive.len(), names(&alive)))])?;
        }
        self.screen
            .step("Past its bound, a hung run is ended with all its processes, by its supervisor or the watchdog")?;
        let bound = [("routine", json!(slug)), ("max_runtime_secs", json!(SHORT_RUNTIME))];
        let answer = self.ask("update_routine", &bound)?;
        self.screen.answered(
            "saved, and in force for runs that are already running",
            &rows(&answer["routine"], &["max_runtime_secs"])?,
        )?;
        self.screen.note(&format!("... {SHORT_RUNTIME} s allowed, 1 s of grace after that ..."))?;
        for ((run, cookie), by) in runs.iter().zip(&cookies).zip(["by its supervisor", "by the watchdog"]) {
            let over = self.await_end(run)?;
            let log = text(&self.call("read_log", &[("run", json!(run))])?, "text")?;
            // A supervisor leaves a moment after its run.
            self.deadline.poll("the last process of a hung run", || {
                Ok(Scan::take_twice()?.carriers(cookie).is_empty().then_some(()))
            })?;
            let mut shown = rows(&over, &["status", "status_reason"])?;
            shown.push(("log ends", log.lines().last().unwrap_or_default().to_owned()));
            shown.push(("alive", "nothing".to_owned()));
            self.screen.answered(&format!("{run}, ended {by}"), &shown)?;
            ensure!(over["status"] == "timed_out", "{run} should have timed out: {over}");
            ensure!(log.contains("exceeded max runtime"), "its log should say why it was ended: {log}");
        }
        Ok(runs)
    }

    fn remove_what_expired(&mut self, expired: &str, hung: &[String], asked: &[String; 2]) -> anyhow::Result<()> {
        self.screen.step(&format!("The first run is kept for {SHORT_TTL} s, and then removed"))?;
        self.deadline.poll("the end of the first run's retention", || {
            let report = self.call("cleanup_workbenches", &[("dry_run", json!(true))])?;
            Ok((!list(&report, "removed")?.is_empty()).then_some(()))
        })?;
        let report = self.ask("cleanup_workbenches", &[])?;
        self.show_report(&report)?;
        find(&report, "removed", "run", expired)?;
        ensure!(list(&report, "removed")?.len() == 1, "only one run has expired: {report}");
        // The workbench of both is named after the first.
        for run in hung.iter().chain(asked.first()) {
            find(&report, "kept", "run", run)?;
        }
        ensure!(list(&report, "failed")?.is_empty(), "nothing should have failed: {report}");
        let workbench = self.app.home.workbenches().join(expired);
        ensure!(!workbench.exists(), "{} should be gone", workbench.display());
        let history = ended(&self.app.home)?;
        ensure!(history.len() == hung.len() + asked.len() + 1, "the history should hold each run once: {history:?}");
        let lines: Vec<String> = history.iter().map(|ended| format!("{}  {}", ended.id, ended.status)).collect();
        self.screen.answered("what outlives the workbench", &[("history.jsonl", lines.join("\n"))])
    }

    fn create(&mut self, title: &str, prompt: &str, ttl: u64, max_runtime: u64) -> anyhow::Result<String> {
        let arguments = [
            ("title", json!(title)),
            ("agent", json!("shell")),
            ("prompt", json!(prompt)),
            ("ttl_secs", json!(ttl)),
            ("max_runtime_secs", json!(max_runtime)),
        ];
        let answer = self.ask("create_routine", &arguments)?;
        self.screen.answered("saved", &rows(&answer["routine"], &["slug"])?)?;
        text(&answer["routine"], "slug")
    }

    fn trigger(&mut self, slug: &str, overlap: &str) -> anyhow::Result<Value> {
        let mut answer = self.ask("trigger_routine", &[("routine", json!(slug)), ("overlap", json!(overlap))])?;
        let run = answer["run"].take();
        let mut shown = rows(&run, &["id", "status", "workbench"])?;
        shown.push(("watch it", text(&run, "attach_command").unwrap_or_else(|_| "in its log (no tmux here)".into())));
        self.screen.answered("started", &shown)?;
        Ok(run)
    }

    fn kill_supervisor(&mut self, run: &str) -> anyhow::Result<()> {
        let started = self.entry(run)?.started()?.with_context(|| format!("{run} is not recorded as started"))?;
        started.supervisor.signal(Signal::KILL)?;
        self.screen.note(&format!("$ kill -9 {}", started.supervisor.pid))?;
        let orphan = self.await_run("a run without a supervisor", run, "status_reason")?;
        let shown = rows(&orphan, &["status", "status_reason"])?;
        self.screen.answered("list_runs still knows it", &shown)?;
        ensure!(orphan["status"] == "running", "{run} should be running: {orphan}");
        Ok(())
    }

    /// Waits until the run's end is recorded; returns how it ended.
    fn await_end(&self, run: &str) -> anyhow::Result<Value> {
        self.await_run(&format!("the end of {run}"), run, "reap_at")
    }

    /// Waits until a run is listed with a text of that name; returns the run. Meanwhile the watchdog looks.
    fn await_run(&self, what: &str, run: &str, key: &str) -> anyhow::Result<Value> {
        self.deadline.poll(what, || {
            watchdog::pass(&self.app.context()?, None)?;
            let runs = self.call("list_runs", &[])?;
            let found = find(&runs, "runs", "id", run)?;
            Ok(found[key].is_string().then(|| found.clone()))
        })
    }

    fn show_report(&mut self, report: &Value) -> anyhow::Result<()> {
        let mut shown = Vec::new();
        for what in ["killed", "removed", "kept", "failed"] {
            for item in list(report, what)? {
                let why = text(item, "reason").or_else(|_| text(item, "error"))?;
                shown.push((what, format!("{}: {why}", text(item, "run")?)));
            }
        }
        let (scanned, freed) = (&report["scanned"], &report["freed_bytes"]);
        self.screen.answered(&format!("workbenches looked at: {scanned}, bytes freed: {freed}"), &shown)
    }

    /// Calls a tool, and shows the call.
    fn ask(&mut self, tool: &str, arguments: Arguments<'_>) -> anyhow::Result<Value> {
        let shown: Vec<Row> = arguments.iter().map(|(name, value)| (*name, plain(value))).collect();
        self.screen.asked(tool, &shown)?;
        self.call(tool, arguments)
    }

    fn call(&self, tool: &str, arguments: Arguments<'_>) -> anyhow::Result<Value> {
        let arguments = arguments.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
        call_by_name(self.app, tool, arguments).with_context(|| format!("{tool} failed"))
    }

    fn entry(&self, run: &str) -> anyhow::Result<Entry> {
        Ok(Entry::of(&self.app.home, &run.parse::<RunId>()?))
    }
}

fn text(of: &Value, key: &str) -> anyhow::Result<String> {
    Ok(of[key].as_str().with_context(|| format!("an answer lacks the text `{key}`: {of}"))?.to_owned())
}

fn list<'v>(of: &'v Value, key: &str) -> anyhow::Result<&'v Vec<Value>> {
    of[key].as_array().with_context(|| format!("an answer lacks the list `{key}`: {of}"))
}

fn find<'v>(of: &'v Value, key: &str, field: &str, value: &str) -> anyhow::Result<&'v Value> {
    let found = list(of, key)?.iter().find(|item| item[field] == value);
    found.with_context(|| format!("`{key}` should hold {value}: {of}"))
}

fn rows(of: &Value, keys: &[&'static str]) -> anyhow::Result<Vec<Row>> {
    let row = |key: &&'static str| {
        let value = of.get(*key).with_context(|| format!("an answer lacks `{key}`: {of}"))?;
        Ok((*key, plain(value)))
    };
    keys.iter().map(row).collect()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
