"""The programs without the product, so that a failure of theirs is not taken for one of the product."""

import json

import built_in
from programs import AGENTS
from stage import Stage, check, prompt

from . import Case, each


def session_of(stage: Stage, ended) -> str:
    """The session id that a program printed."""
    for line in ended.lines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if stage.agent.session in event:
            return event[stage.agent.session]
    check(False, f"no {stage.agent.session} in:\n{ended.out}\n{ended.err}")


def works(stage: Stage):
    """Says something, writes a file and runs a command, is resumed, and gives its key and model to the server."""
    ended = stage.alone(
        {"tool": "write", "path": str(stage.workbench / "a.txt"), "content": "made"},
        {"tool": "bash", "command": "mkdir made-by-shell"},
        {"text": "All done."},
    )
    check(ended.exit == 0, f"exit {ended.exit}:\n{ended.out}\n{ended.err}")
    check("All done." in ended.out, f"no text in:\n{ended.out}")
    check((stage.workbench / "a.txt").read_text().strip() == "made", f"no a.txt:\n{ended.out}")
    check((stage.workbench / "made-by-shell").is_dir(), f"no command was run:\n{ended.out}")
    check(len(stage.requests()) == 3, f"{len(stage.requests())} requests instead of 3")

    again = stage.alone({"text": "Resumed."}, session=session_of(stage, ended))
    check(again.exit == 0 and "Resumed." in again.out, f"exit {again.exit}:\n{again.out}\n{again.err}")
    turns = stage.requests()[-1]["turns"]
    check(any("All done." in turn["text"] for turn in turns), f"the earlier conversation was not sent: {turns}")


def is_refused(stage: Stage):
    """Ends with an error when its key is refused."""
    ended = stage.alone({"error": 401})
    check(ended.exit != 0, f"exit 0:\n{ended.out}\n{ended.err}")
    check("401" in ended.out, f"no word of it:\n{ended.out}\n{ended.err}")


def recovers(stage: Stage):
    """Asks again when the server is overloaded, and when a stream breaks off."""
    ended = stage.alone({"error": 529, "times": 1}, {"cut": True, "text": "Half a", "times": 1}, {"text": "All done."})
    check(ended.exit == 0 and "All done." in ended.out, f"exit {ended.exit}:\n{ended.out}\n{ended.err}")
    check(len(stage.requests()) == 3, f"{len(stage.requests())} requests instead of 3")


def ended_well(stage: Stage, text, session=None, variables=None, **options):
    """Runs the built-in agent to its end, with these options and this prompt."""
    command, own = built_in.command(stage.agent.name, stage.workbench, session, **options)
    ended = stage.execute(command, text, **(own | (variables or {})))
    check(ended.exit == 0, f"exit {ended.exit}:\n{ended.out}\n{ended.err}")
    return ended


def _question(text):
    options = [{"label": "main", "description": "the main one"}, {"label": "dev", "description": "the other"}]
    return {"question": text, "header": "Branch", "multiSelect": False, "options": options}


def asked(ended):
    """The input of the call with which Claude Code ended."""
    results = [event for event in map(json.loads, ended.lines()) if event.get("type") == "result"]
    check(len(results) == 1 and not results[0]["is_error"], f"the results are {results}")
    return (results[0].get("deferred_tool_use") or {}).get("input")


def asks_a_person(stage: Stage):
    """Ends with its question, twice, and gets the answer when it is continued. Another question ends it again."""
    home, question = stage.folder / "moadim", {"questions": [_question("Which branch?")]}
    other = {"questions": [_question("Which tag?"), _question("Which \"name\"?")]}
    steps = [{"tool": "AskUserQuestion", "arguments": arguments} for arguments in (question, other)]
    steps.append({"text": "All done."})
    ours = {"MOADIM_PROGRAM": str(stage.product), "MOADIM_HOME": str(home)}

    def run(number, text="", session=None, answer=None):
        entry = home / "running" / f"work-{1795000000 + number}"
        entry.mkdir(parents=True)
        if answer:
            (entry / "answer.json").write_text(json.dumps(answer), encoding="utf-8")
        return ended_well(stage, text, session, ours | {"MOADIM_RUN": entry.name}, permissions="edit")

    first = run(1, prompt(*steps))
    session = session_of(stage, first)
    check(asked(first) == question, f"it asked {asked(first)}")
    again = run(2, session=session)
    check(asked(again) == question, f"it asked {asked(again)}")
    second = run(3, session=session, answer={"input": asked(first), "text": "neither: {dev}\nfirst"})
    check(asked(second) == other, f"it asked {asked(second)}")
    last = run(4, session=session, answer={"input": asked(second), "text": "v1"})
    check(asked(last) is None and "All done." in last.out, f"it did not go on:\n{last.out}")
    answers = [turn["text"] for turn in stage.requests()[-1]["turns"] if turn["role"] == "tool"]
    check(len(answers) == 2 and "neither: {dev}\nfirst" in answers[0], f"the answers were {answers}")
    check(answers[1].count("v1") == 2, f"the answers were {answers}")


def goes_on_without_us(stage: Stage):
    """Does not ask where our program cannot be started, and works on. No other tool comes with that for questions."""
    question = {"tool": "AskUserQuestion", "arguments": {"questions": [_question("Which branch?")]}}
    plan = {"tool": "EnterPlanMode", "arguments": {}}
    outside = {"tool": "write", "path": str(stage.outside / "a.txt"), "content": "made"}
    ended = ended_well(stage, prompt(question, plan, outside, {"text": "All done."}), permissions="edit")
    check(asked(ended) is None and "All done." in ended.out, f"it did not work on:\n{ended.out}")
    check(not (stage.outside / "a.txt").exists(), f"it wrote outside of its workbench:\n{ended.out}")
    answers = [turn["text"] for turn in stage.requests()[-1]["turns"] if turn["role"] == "tool"]
    check("No such tool available" in answers[1], f"the answers were {answers}")
    # The rest is what it offers by itself.
    command, variables = built_in.command("claude", stage.workbench, permissions="edit")
    at = command.index("--permission-prompt-tool")
    bare = command[:at] + command[at + 2 :]
    stage.execute(bare, prompt({"text": "All done."}), **variables)
    offered = [set(seen["tools"]) for seen in stage.requests()]
    check(offered[0] - offered[-1] == {"AskUserQuestion"}, f"it offers {offered[0]}, and by itself {offered[-1]}")


CASES: list[Case] = [
    *each(AGENTS, "alone: works", works),
    *each(AGENTS, "alone: is refused", is_refused),
    *each(["claude", "codex"], "alone: recovers", recovers),
    *each(["claude"], "alone: asks a person", asks_a_person),
    *each(["claude"], "alone: goes on without us", goes_on_without_us),
]
