"""The script in a prompt, and which of its steps comes next.

A script is a line of the prompt, or its end: `SCRIPT: [STEP, ...]`. A step is a JSON object:

    {"text": "Done."}                                  the model says this; without a tool, its turn is over
    {"tool": "bash", "command": "echo one"}            a tool call; "text" may stand beside it
    {"tool": "write", "path": "a.txt", "content": "a"}
    {"tool": "search", "query": "create routine"}      a search for tools, in agents that do not offer all at once
    {"tool": "create_routine", "arguments": {...}}     any other tool, by the end of its name
    {"error": 529, "times": 2}                         this HTTP status, as often as said, then the next step
    {"limit": 1800000000}                              a usage limit that is over at this time (epoch seconds)
    {"hang": 20}                                       nothing for so many seconds, then the next step
    {"cut": true, "text": "Half a"}                    the answer's stream breaks off

Inside of arguments, {"found": REGEX} stands for the last match in what tools have answered so far.
"""

import json
import re
import threading

from .conversation import Request

LINE = re.compile(r"SCRIPT: (\[.*\])\s*$", re.MULTILINE)


class BadScript(Exception):
    """A script that cannot be played."""


class Scripts:
    """The scripts that are played. Errors and hangs leave no trace in a conversation, so they are counted here."""

    def __init__(self):
        self._lock = threading.Lock()
        self._passed = {}

    def next_step(self, who: str, request: Request) -> dict:
        """The step that answers this request of `who`."""
        start, steps = _script(request)
        if steps is None:
            return {"text": "There is no script."}
        spoken = _spoken_since(request, start)
        position = 0
        while position < len(steps):
            step = steps[position]
            if not _leaves_no_trace(step):
                if spoken == 0:
                    return step
                spoken -= 1
            elif spoken == 0 and self._is_due(who, len(request.turns), position, step):
                return step
            position += 1
        return {"text": "The script is over."}

    def _is_due(self, who, length, position, step):
        """Whether a step that leaves no trace has not yet been played as often as it should be."""
        key = (who, length, position)
        with self._lock:
            played = self._passed.get(key, 0)
            if played >= step.get("times", 1 if "hang" in step else 1000):
                return False
            self._passed[key] = played + 1
            return True


def _leaves_no_trace(step):
    return bool({"error", "limit", "hang", "cut"} & step.keys())


def _script(request):
    """The last turn of a person that has a script, and its steps."""
    for index in range(len(request.turns) - 1, -1, -1):
        turn = request.turns[index]
        lines = LINE.findall(turn.text) if turn.role == "user" else []
        if lines:
            try:
                return index, json.loads(lines[-1])
            except ValueError as error:
                raise BadScript(f"{error}: {lines[-1]}") from error
    return 0, None


def _spoken_since(request, start):
    """How often the model has spoken since. What it says in several entries without an answer between is one turn."""
    spoken, before = 0, "user"
    for turn in request.turns[start + 1 :]:
        if turn.role == "assistant" and before != "assistant":
            spoken += 1
        before = turn.role
    return spoken


def filled(value, request: Request):
    """`value` with what tools have answered in place of each {"found": REGEX}."""
    if isinstance(value, dict):
        if value.keys() == {"found"}:
            return _found(value["found"], request)
        return {key: filled(inner, request) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, request) for inner in value]
    return value


def _found(regex, request):
    for turn in reversed(request.turns):
        matches = list(re.finditer(regex, turn.text)) if turn.role == "tool" else []
        if matches:
            return matches[-1].group(0)
    raise BadScript(f"no tool has answered anything like {regex}")
