"""The built-in agents' own files, for cases that start them as the product would, without it."""

import tomllib
import uuid
from pathlib import Path

FILES = Path(__file__).resolve().parents[2] / "src" / "agent" / "built_in"


def command(agent: str, workbench: Path, session=None, **options):
    """The command line of a built-in agent with these options, and the variables that it sets. With a session, the one that
    continues it."""
    definition = tomllib.loads((FILES / f"{agent}.toml").read_text(encoding="utf-8"))
    known = definition["options"]
    chosen = {name: option["default"] for name, option in known.items() if "default" in option} | options
    added, variables = [], dict(definition.get("env", {}))
    for name, value in chosen.items():
        for adds in (known[name], known[name].get("adds", {}).get(value, {})):
            added += [word.replace("{value}", value) for word in adds.get("args", [])]
            variables |= {key: text.replace("{value}", value) for key, text in adds.get("env", {}).items()}
    words = []
    for word in definition["continue_args" if session else "args"]:
        words += added if word == "{options}" else [word]
    places = {"{workbench}": str(workbench), "{uuid}": str(uuid.uuid4()), "{session_id}": session or ""}
    for place, value in places.items():
        words = [word.replace(place, value) for word in words]
    return [definition["command"], *words], variables
