"""What the tools of each agent are called, and what they take."""

import json
import os
import re

from .conversation import Call, Request, Tool


def _claude_bash(step):
    return {"command": step["command"], "description": "as scripted"}


def _codex_patch(step):
    lines = "\n".join("+" + line for line in step["content"].splitlines())
    return f"*** Begin Patch\n*** Add File: {step['path']}\n{lines}\n*** End Patch\n"


def _codex_patch_by_shell(step):
    return {"cmd": f"apply_patch <<'PATCH'\n{_codex_patch(step)}PATCH"}


def _file(path, content):
    return lambda step: {path: step["path"], content: step["content"]}


#: For each agent and each of the two tools that scripts name alike: the agent's own names, the first that it offers is
#: taken, and what they take. If it offers none, the first is called nevertheless, as a model may do.
OWN = {
    "claude": {
        "bash": [("Bash", _claude_bash)],
        "write": [("Write", _file("file_path", "content"))],
    },
    "codex": {
        "bash": [
            ("exec_command", lambda step: {"cmd": step["command"]}),
            ("shell_command", lambda step: {"command": step["command"]}),
            ("shell", lambda step: {"command": ["bash", "-c", step["command"]]}),
        ],
        "write": [
            ("apply_patch", _codex_patch),
            ("exec_command", _codex_patch_by_shell),
        ],
    },
    "gemini": {
        "bash": [("run_shell_command", lambda step: {"command": step["command"], "description": "as scripted"})],
        "write": [("write_file", _file("file_path", "content"))],
    },
    "opencode": {
        "bash": [("bash", lambda step: {"command": step["command"], "description": "as scripted"})],
        "write": [("write", _file("filePath", "content"))],
    },
    "qwen": {
        "bash": [
            (
                "run_shell_command",
                lambda step: {"command": step["command"], "description": "as scripted", "is_background": False},
            )
        ],
        "write": [("write_file", _file("file_path", "content"))],
    },
    "copilot": {
        "bash": [("bash", lambda step: {"command": step["command"], "description": "as scripted"})],
        "write": [("create", _file("path", "file_text"))],
    },
}


def call(agent: str, step: dict, request: Request, number: int) -> Call:
    """The tool call of `step`, as `agent` takes it."""
    named = step["tool"]
    if named in OWN[agent]:
        tool, take = _own(OWN[agent][named], request)
        arguments = take(_with_absolute_path(step, request))
    else:
        tool = _by_end(named, request)
        arguments = step.get("arguments", {})
    return Call(id=f"call_{number}", tool=tool, arguments=arguments)


def _with_absolute_path(step, request):
    """Qwen Code takes no other. It says where it works, and models go by that."""
    for turn in request.turns:
        directory = re.search(r"working in the directory: (\S+)", turn.text)
        if directory and "path" in step:
            return step | {"path": os.path.join(directory[1], step["path"])}
    return step


def _own(choices, request):
    for name, take in choices:
        for tool in request.tools:
            if tool.name == name and not tool.group:
                return tool, take
    name, take = choices[0]
    return Tool(name), take


def _by_end(named, request):
    """MCP tools carry the name of their server before their own, in a way of each program."""
    for tool in request.tools:
        if tool.name == named or (tool.name.endswith(named) and tool.name[-len(named) - 1] in "_-."):
            return tool
    return Tool(named)


def text_of(arguments) -> str:
    """The arguments of a call as the APIs of OpenAI carry them."""
    return arguments if isinstance(arguments, str) else json.dumps(arguments)
