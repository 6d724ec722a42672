"""The built-in agents in runs: what they write, what is known of them, and how they end."""

import time
from datetime import datetime
from functools import partial

import programs
from product import Product, ToolError
from programs import AGENTS
from stage import Failed, Stage, check, end_processes, until

from . import Case, each


def report_of(run):
    check(isinstance(run.get("output"), dict), f"no output in {run}")
    return run["output"]


def works(stage: Stage):
    """A run as it is without any option: it writes a file, and says who it was, what it used and what it said last."""
    agent = stage.agent
    with Product(stage) as product:
        run = product.succeed({"tool": "write", "path": "made.txt", "content": "made"}, {"text": "All done."})
        check((product.workbench(run) / "made.txt").read_text().strip() == "made", "made.txt holds something else")
        report = report_of(run)
        check(report.get("session_id"), f"no session_id in {report}")
        check(report.get("result") == "All done.", f"the result is {report.get('result')!r}")
        check(not report.get("denied") and not report.get("limit") and not report.get("needs"), f"too much in {report}")
        check(("model" in report) == agent.prints_model, f"model: {report.get('model')!r}")
        if agent.prints_usage:
            check(report["usage"]["output_tokens"] >= 100, f"usage: {report['usage']}")
            check(report["usage"]["input_tokens"] >= 1600, f"usage: {report['usage']}")
        else:
            check("usage" not in report, f"usage that nobody reported: {report}")
        if agent.name == "claude":
            check(report["usage"]["cost_usd"] > 0, f"usage: {report['usage']}")
            check(report["turns"] == 2, f"{report['turns']} turns instead of 2")
        log = product.log(run["id"])
        check("made.txt" in log and "All done." in log, f"the log is:\n{log}")
        check_readable(log)


def check_readable(log):
    check('"type":' not in log, f"the log shows the agent's own events:\n{log}")


#: One of the two leaves the session. Claude Code lets neither `setsid` nor a command that begins with `sleep` pass.
SLEEPERS = 'import subprocess as s; s.Popen(["sleep", "4711"], start_new_session=True); s.run(["sleep", "4711"])'


def is_read_and_stopped(stage: Stage):
    """Its log can be read while it runs, and raw. Stopping it ends all that it started."""
    agent = stage.agent
    # No agent may run commands with less.
    full = {"files": {"max_permissions": "full"}}.get(agent.default_permissions, {})
    options = {"options": {"permissions": "full"}} if full else {}
    with Product(stage, **full) as product:
        run = product.start(
            {"tool": "write", "path": "early.txt", "content": "early"},
            {"tool": "bash", "command": f"python3 -c '{SLEEPERS}'"},
            {"text": "The sleep is over."},
            **options,
        )
        log = product.until_it_works(run, "early.txt")
        check_readable(log)
        raw = product.log(run, raw=True)
        check("early.txt" in raw and '"type":' in raw, f"the raw log is:\n{raw}")
        until("its commands", lambda: len(commands(product)) == 2, secs=30)
        product.call("stop_run", run=run)
        ended = product.wait(run)
        check(ended["status"] == "stopped", f"{ended['status']}: {ended.get('status_reason')}")
        until("the end of its commands", lambda: not commands(product), secs=15)
        until("the end of all that works there", lambda: not product.workers(run), secs=15)


def commands(product):
    return [command for command in product.processes().values() if command == "sleep 4711"]


def is_silent(stage: Stage):
    """It is ended when it prints nothing for too long."""
    with Product(stage) as product:
        began = time.monotonic()
        run = product.run({"hang": 60}, max_silence_secs=5)
        check(run["status"] == "silent", f"{run['status']}: {run.get('status_reason')}")
        check(time.monotonic() - began < 50, "it was ended much too late")
        until("the end of all that works there", lambda: not product.workers(run["id"]), secs=15)


def is_limited(stage: Stage):
    """A usage limit is told apart from other errors, with its end where the agent says when."""
    resets_at = int(time.time()) // 60 * 60 + 3 * 3600
    stage.changed = programs.subscription(stage.agent, stage.case)
    with Product(stage) as product:
        run = product.run({"limit": resets_at}, secs=180, max_runtime_secs=200)
        report = report_of(run)
        limit = report.get("limit")
        check(isinstance(limit, dict) and limit.get("kind"), f"no limit in {report}; {run.get('status_reason')}")
        check(not report.get("needs"), f"needs: {report.get('needs')!r}")
        # Too many requests at once are another thing than a window that is used up.
        is_of_usage = limit["kind"] != "rate_limit"
        expected = "limited" if is_of_usage else "failed"
        check(run["status"] == expected, f"{run['status']}: {run.get('status_reason')}")
        held = product.held_until(stage.agent.name)
        check((held is not None) == is_of_usage, f"held until {held}")
        routine = product.call("list_routines")["routines"][0]
        check(("waiting" in routine) == is_of_usage, f"it waits: {routine.get('waiting')}")
        if stage.agent.name in ("claude", "codex"):
            said = datetime.fromisoformat(limit["resets_at"].replace("Z", "+00:00")).timestamp()
            check(abs(said - resets_at) <= 60, f"it resets at {limit['resets_at']} instead of {resets_at}")
        else:
            check("resets_at" not in limit, f"a time that nobody said: {limit}")


def lifts_its_hold(stage: Stage):
    """A run that somebody asks for at the limit starts, and its success lifts the hold."""
    resets_at = int(time.time()) // 60 * 60 + 3 * 3600
    stage.changed = programs.subscription(stage.agent, stage.case)
    with Product(stage) as product:
        run = product.run({"limit": resets_at, "times": 1}, {"text": "All done."})
        check(run["status"] == "limited", f"{run['status']}: {run.get('status_reason')}")
        check(product.held_until(stage.agent.name), "the agent is not held")
        # A run that began in the second in which the limit was met proves nothing.
        time.sleep(1.1)
        again = product.wait(product.trigger())
        check(again["status"] == "succeeded", f"{again['status']}: {again.get('status_reason')}")
        until("the end of the hold", lambda: product.held_until(stage.agent.name) is None, secs=15)


def has_options(stage: Stage):
    """The server sees the model and the effort that the routine asks for."""
    agent = stage.agent
    options = {"model": agent.model} | ({"effort": agent.effort} if agent.effort else {})
    with Product(stage) as product:
        run = product.succeed({"text": "All done."}, options=options)
        seen = stage.requests()[-1]
        check(seen["model"] == agent.model_seen, f"the server saw the model {seen['model']!r}")
        if agent.effort:
            check(seen["effort"] == agent.effort, f"the server saw the effort {seen['effort']!r}")
        if agent.prints_model:
            model = report_of(run).get("model")
            check(model == agent.model_seen, f"the output has the model {model!r}")


def counts_denied(stage: Stage):
    """What was denied is counted, also in a run that succeeded."""
    write = {"tool": "write", "path": str(stage.outside / "denied.txt"), "content": "x"}
    command = {"tool": "bash", "command": f"touch {stage.outside}/denied.txt"}
    # The file tool of an agent that may not run commands is perhaps not denied anything.
    denied_step = command if stage.agent.default_permissions == "files" else write
    with Product(stage) as product:
        run = product.succeed(denied_step, {"text": "I could not."})
        check(not (stage.outside / "denied.txt").exists(), "it was written nevertheless")
        denied = report_of(run).get("denied")
        check(denied and sum(entry["count"] for entry in denied) == 1, f"denied: {denied!r}")
        check("denied" in (run.get("status_reason") or ""), f"status_reason: {run.get('status_reason')!r}")


def is_bounded(option, value, stage: Stage):
    """It is ended by its own bound on turns or money, and says so."""
    with Product(stage) as product:
        run = product.run(*[{"tool": "write", "path": f"{n}.txt", "content": "x"} for n in range(9)], options={option: value})
        check(run["status"] == "failed", f"{run['status']}: {run.get('status_reason')}")
        check(len(stage.requests()) < 9, "it was not ended")
        # Qwen Code says it on stderr alone.
        said = product.log(run["id"]) if stage.agent.name == "qwen" else run.get("status_reason") or ""
        check(("turns" if option == "max_turns" else "budget") in said.lower(), f"it said {said!r}")


def is_over_budget(stage: Stage):
    """It keeps what it said and made, says what it cost and what it was allowed, and is not tried again. The day's ceiling then holds."""
    steps = [{"text": f"Writing {n}.", "tool": "write", "path": f"{n}.txt", "content": "x"} for n in range(9)]
    fields = {"max_daily_cost_usd": 0.006, "retry": {"max_attempts": 3, "backoff_secs": 1}}
    with Product(stage) as product:
        run = product.run(*steps, options={"max_budget_usd": 0.006}, **fields)
        check(run["status"] == "failed", f"{run['status']}: {run.get('status_reason')}")
        report = report_of(run)
        cost = report["usage"]["cost_usd"]
        check(cost > 0.006, f"it cost {cost}")
        said = run.get("status_reason") or ""
        check(said.startswith("over budget: it cost $") and said.endswith("max_budget_usd is 0.006"), f"it said {said!r}")
        check(report.get("over_budget") is True, f"over_budget: {report}")
        check((report.get("result") or "").startswith("Writing "), f"the result is {report.get('result')!r}")
        check((product.workbench(run) / "0.txt").exists(), "what it made is gone")
        used = product.call("get_routine", routine="work")["routine"]["used_today"]
        check(used["cost_usd"] == cost and used["unknown_cost_runs"] == 0, f"used_today: {used}")
        time.sleep(3)
        check(product.call("list_runs", routine="work")["total"] == 1, "it was tried again")
        try:
            product.trigger()
        except ToolError as refused:
            check("max_daily_cost_usd is 0.006" in str(refused), f"it was refused: {refused}")
        else:
            raise Failed("another run was started")


def recovers(stage: Stage):
    """An overloaded server and a broken stream are the agent's own affair, and can be read in the log."""
    with Product(stage) as product:
        run = product.succeed({"error": 529, "times": 1}, {"cut": True, "text": "Half a", "times": 1}, {"text": "Done."})
        result = report_of(run).get("result")
        check(result == "Done.", f"the result is {result!r}")
        check_readable(product.log(run["id"]))


def continues_by_hand(stage: Stage):
    """The run's own command continues its conversation in a terminal."""
    with Product(stage) as product:
        run = product.succeed({"text": "The first answer."})
        command = run.get("resume_command")
        check(command, f"no resume_command in {run}")
        check(report_of(run)["session_id"] in command, f"no session id in {command}")

        def continued():
            turns = [seen["turns"] for seen in stage.requests() if seen["step"] == {"text": "The second answer."}]
            return any("The first answer." == turn["text"].strip() for turn in turns[0]) if turns else None

        steps = [{"text": "The second answer."}]
        sent = stage.in_terminal(command, product.workbench(run), "The first answer.", steps, continued)
        check(sent, "the earlier conversation was not sent")
    # Codex leaves a process of its own behind when it is used by hand.
    end_processes(stage.folder)


CASES: list[Case] = [
    *each(AGENTS, "run: works", works),
    *each(AGENTS, "run: is read and stopped", is_read_and_stopped),
    *each(AGENTS, "run: is silent", is_silent),
    *each(["claude", "codex", "gemini"], "run: is limited", is_limited),
    *each(["claude", "codex"], "run: lifts its hold", lifts_its_hold),
    # They try again for more than a minute first.
    *each(["opencode", "copilot"], "run: is limited", is_limited, long=True),
    *each(AGENTS, "run: has options", has_options),
    *each([name for name, agent in AGENTS.items() if agent.counts_denied], "run: counts denied", counts_denied),
    *each(["claude", "qwen"], "run: is bounded by turns", partial(is_bounded, "max_turns", 2)),
    *each(["claude"], "run: is bounded by money", partial(is_bounded, "max_budget_usd", 0.006)),
    *each(["claude"], "run: is over budget", is_over_budget),
    *each(["claude", "codex"], "run: recovers", recovers),
    *each(AGENTS, "run: continues by hand", continues_by_hand),
]
