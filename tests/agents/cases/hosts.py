"""The programs as hosts: after `moadim-mcp setup`, each uses our tools through its own client, without a person."""

import json

import programs
from product import add_agent_variables, make_home, set_up_host
from programs import AGENTS
from stage import Stage, check, prompt

from . import Case, each


def set_up(stage: Stage):
    """Sets up the stage's agent as a host. Gives the moadim home that it uses."""
    home, host = make_home(stage), stage.agent.host
    set_up_host(stage, host.setup, home)
    if host.changes:
        file, old, new = host.changes
        file = stage.user / file
        check(old in file.read_text(), f"setup wrote no {old}")
        file.write_text(file.read_text().replace(old, new, 1))
    return home


def have_done(stage: Stage, home, **routine):
    """Has the host create a routine, trigger it and wait for its run. Gives the run's workbench."""
    search = [{"tool": "search", "query": "moadim routine create trigger wait run"}] if stage.agent.host.searches else []
    ended = stage.execute(
        stage.agent.host.command,
        prompt(
            *search,
            {"tool": "create_routine", "arguments": {"title": "Made by a host", "slug": "made"} | routine},
            {"tool": "trigger_routine", "arguments": {"routine": "made"}},
            {"tool": "wait_run", "arguments": {"run": {"found": r"made-\d+"}}},
            {"text": "All done."},
        ),
    )
    said = f"{ended.out}\n{ended.err}"
    check(ended.exit == 0 and "All done." in ended.out, f"exit {ended.exit}:\n{said}")
    tools = [turn["text"] for turn in stage.requests()[-1]["turns"] if turn["role"] == "tool"]
    waited = tools[-1].replace("\\", "")
    check('"finished":true' in waited and '"status":"succeeded"' in waited, f"wait_run answered {tools[-1]}\n{said}")
    workbenches = list((home / "workbenches").iterdir())
    check(len(workbenches) == 1, f"{len(workbenches)} workbenches instead of one:\n{said}")
    outcome = json.loads((workbenches[0] / "outcome.json").read_text())
    check(outcome["status"] == "succeeded", f"the run did not succeed: {outcome}")
    return workbenches[0]


def does_the_whole_job(stage: Stage):
    """Its routine's agent is a shell that a person added: this is about the host."""
    home = set_up(stage)
    (home / "agents" / "shell.toml").write_text('command = "sh"\nlogin_shell = false\n')
    workbench = have_done(stage, home, agent="shell", prompt="echo done > made.txt")
    check((workbench / "made.txt").read_text() == "done\n", "the run made nothing")


def has_codex_work(stage: Stage):
    """One program inside the other."""
    home = set_up(stage)
    codex = AGENTS["codex"]
    add_agent_variables(home, "codex", programs.environment(codex, stage.user, stage.server.url, stage.case))
    inner = prompt(
        {"tool": "write", "path": "inner.txt", "content": "made by codex"},
        {"text": "Codex has done it."},
    )
    workbench = have_done(stage, home, agent="codex", prompt=inner)
    check((workbench / "inner.txt").read_text().strip() == "made by codex", "codex wrote nothing")
    seen = [seen for seen in stage.server.seen() if seen["agent"] == "codex" and seen["case"] == stage.case]
    check(len(seen) == 2, f"codex made {len(seen)} requests instead of 2")


CASES: list[Case] = [
    *each(AGENTS, "host: does the whole job", does_the_whole_job),
    Case("claude", "host: has codex work", has_codex_work),
]
