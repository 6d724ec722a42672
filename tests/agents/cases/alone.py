"""The programs without the product, so that a failure of theirs is not taken for one of the product."""

import json

from programs import AGENTS
from stage import Stage, check

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


CASES: list[Case] = [
    *each(AGENTS, "alone: works", works),
    *each(AGENTS, "alone: is refused", is_refused),
    *each(["claude", "codex"], "alone: recovers", recovers),
]
