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


def _search(count):
    return lambda step: {"query": step["query"], count: 10}


def _file(path, content):
    return lambda step: {path: step["path"], content: step["content"]}


#: For each agent and each tool that scripts name alike: the agent's own names, of which the first that it offers is taken,
#: and what they take. If it offers none, the first is called nevertheless, as a model may do. `search` finds tools that an
#: agent does not offer from the start.
OWN = {
    "claude": {
        "bash": [("Bash", _claude_bash)],
        "write": [("Write", _file("file_path", "content"))],
        "search": [("ToolSearch", _search("max_results"))],
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
        "search": [("tool_search", _search("limit"))],
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
        "search": [("tool_search", _search("max_results"))],
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
        tool, arguments = _by_end(named, step.get("arguments", {}), request)
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


def _by_end(named, arguments, request):
    """MCP tools carry the name of their server before their own, in a way of each program."""
    is_it = re.compile(rf"(?:[\w-]+[_.-])?{re.escape(named)}")
    for tool in request.tools:
        if is_it.fullmatch(tool.name):
            return tool, arguments
    # Qwen Code never offers what a search has found: it is called through a tool that is there for it.
    through = [tool for tool in request.tools if tool.name == "tool_call"]
    known = re.compile(rf"mcp__\w+?__{re.escape(named)}\b")
    found = [known.search(turn.text) for turn in request.turns if turn.role == "tool"]
    if through and any(found):
        return through[0], {"name": next(match[0] for match in found if match), "arguments": arguments}
    return Tool(named), arguments


def text_of(arguments) -> str:
    """The arguments of a call as the APIs of OpenAI carry them."""
    return arguments if isinstance(arguments, str) else json.dumps(arguments)
