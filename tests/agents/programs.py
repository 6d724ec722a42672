"""The agent programs: how each is pointed at the model server, with a home of its own, and its own command line.

This is the one table to extend for another agent, together with the names of its tools in model/tools.py.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from model.server import key_of

#: Keeps programs from what they do beside their work (look for updates, send statistics, fetch lists of models), and from
#: retrying for minutes what the server refuses.
QUIET = {
    "CLAUDE_CODE_MAX_RETRIES": "2",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
}


@dataclass
class Host:
    """An agent program as an MCP client."""

    #: What `moadim-mcp setup` calls it.
    setup: str
    #: Its command line that may use our tools without a person. The prompt is on stdin.
    command: list[str]
    #: Whether it offers our tools only after a search.
    searches: bool = False
    #: What else a person changes after `setup`: text in a file below the home, and what replaces it.
    changes: tuple[str, str, str] | None = None


@dataclass
class Agent:
    """One program."""

    name: str
    #: Its unattended command line with rights to write, and what is added to resume a session. The prompt is on stdin.
    command: list[str]
    resume: list[str]
    #: Makes its files below a home, for a server's URL and a key, and gives its environment.
    configure: Callable[[Path, str, str], dict[str, str]]
    #: The variable that holds its key.
    key: str
    #: A model to ask for that is not its default, as its model server then sees it, and whether it prints its model.
    model: str
    model_seen: str
    prints_model: bool
    #: The permissions of a routine that says none, where `max_permissions` is "edit".
    default_permissions: str
    host: Host
    #: What its interactive command takes a first prompt by; None if it has to be typed.
    first_prompt: list[str] | None
    #: An effort that it can be asked for.
    effort: str | None = None
    #: Whether it prints tokens, and its last text. Whether it prints how many calls were denied.
    prints_usage: bool = True
    counts_denied: bool = False
    #: Arguments after all others with which the prompt is taken from stdin.
    prompt_from_stdin: list[str] = field(default_factory=list)
    #: Whether it is installed with --long alone.
    long: bool = False
    #: Its session id in what it prints.
    session: str = "session_id"
    #: Variables of a login that has a usage limit, in place of those of a key.
    subscription: dict[str, str | None] = field(default_factory=dict)


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _claude(home, url, key):
    state = {
        "hasCompletedOnboarding": True,
        # What a person has answered: this key may be used, and all below may be trusted.
        "customApiKeyResponses": {"approved": [key[-20:]], "rejected": []},
        "projects": {str(home.parent): {"hasTrustDialogAccepted": True}},
    }
    _write(home / ".claude.json", json.dumps(state))
    return {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": key}


def _codex(home, url, key):
    config = f"""\
model = "gpt-5.5"
model_provider = "loopback"
check_for_update_on_startup = false
analytics.enabled = false

[notice.model_migrations]
"gpt-5.5" = "gpt-6-sol"

[projects."{home.parent}"]
trust_level = "trusted"

[model_providers.loopback]
name = "loopback"
base_url = "{url}/v1"
env_key = "LOOPBACK_API_KEY"
wire_api = "responses"
request_max_retries = 1
stream_max_retries = 1
"""
    _write(home / ".codex" / "config.toml", config)
    return {"CODEX_HOME": str(home / ".codex"), "LOOPBACK_API_KEY": key}


def _gemini(home, url, key):
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
    }
    _write(home / ".gemini" / "settings.json", json.dumps(settings))
    return {"GOOGLE_GEMINI_BASE_URL": url, "GEMINI_API_KEY": key}


def _opencode(home, url, key):
    model = {"name": "model", "limit": {"context": 200000, "output": 8000}, "reasoning": True}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "loopback",
        "options": {"baseURL": f"{url}/v1", "apiKey": "{env:LOOPBACK_API_KEY}"},
        "models": {"first": model, "second": model},
    }
    config = {"model": "loopback/first", "provider": {"loopback": provider}, "autoupdate": False, "share": "disabled"}
    # It would install a package for plugins that are not there.
    _write(home / ".npmrc", "offline=true\n")
    _write(home / ".config" / "opencode" / "opencode.json", json.dumps(config))
    return {"LOOPBACK_API_KEY": key}


def _qwen(home, url, key):
    settings = {
        "security": {"auth": {"selectedType": "openai"}},
        "general": {"enableAutoUpdate": False},
        "privacy": {"usageStatisticsEnabled": False},
    }
    _write(home / ".qwen" / "settings.json", json.dumps(settings))
    return {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": key, "OPENAI_MODEL": "first"}


def _copilot(home, url, key):
    _write(home / ".copilot" / "config.json", json.dumps({"trusted_folders": [str(home.parent)]}))
    return {
        "COPILOT_PROVIDER_BASE_URL": f"{url}/v1",
        "COPILOT_PROVIDER_API_KEY": key,
        "COPILOT_PROVIDER_TYPE": "openai",
        "COPILOT_MODEL": "first",
        "COPILOT_OFFLINE": "true",
    }


AGENTS = {
    agent.name: agent
    for agent in [
        Agent(
            "claude",
            ["claude", "-p", "--output-format", "stream-json", "--verbose", "--permission-mode", "acceptEdits"],
            ["--resume", "{session}"],
            _claude,
            key="ANTHROPIC_API_KEY",
            model="claude-sonnet-5-5",
            model_seen="claude-sonnet-5-5",
            prints_model=True,
            effort="high",
            counts_denied=True,
            default_permissions="edit",
            host=Host(
                "claude-code",
                ["claude", "-p", "--output-format", "stream-json", "--verbose", "--allowedTools", "mcp__moadim__*"],
                searches=True,
            ),
            first_prompt=["{prompt}"],
            subscription={"ANTHROPIC_API_KEY": None, "CLAUDE_CODE_OAUTH_TOKEN": "{key}"},
        ),
        Agent(
            "codex",
            ["codex", "exec", "--json", "--skip-git-repo-check", "--sandbox", "workspace-write"],
            ["resume", "{session}"],
            _codex,
            key="LOOPBACK_API_KEY",
            model="gpt-5.5-mini",
            model_seen="gpt-5.5-mini",
            prints_model=False,
            effort="high",
            default_permissions="edit",
            host=Host(
                "codex",
                ["codex", "exec", "--json", "--skip-git-repo-check", "-"],
                searches=True,
                changes=(
                    ".codex/config.toml",
                    "[mcp_servers.moadim]",
                    '[mcp_servers.moadim]\ndefault_tools_approval_mode = "approve"',
                ),
            ),
            first_prompt=["{prompt}"],
            prompt_from_stdin=["-"],
            session="thread_id",
        ),
        Agent(
            "gemini",
            ["gemini", "--skip-trust", "--yolo", "--output-format", "stream-json"],
            ["--resume", "{session}"],
            _gemini,
            key="GEMINI_API_KEY",
            model="gemini-2.5-flash",
            model_seen="gemini-2.5-flash",
            prints_model=True,
            default_permissions="files",
            host=Host(
                "gemini",
                ["gemini", "--skip-trust", "--allowed-mcp-server-names", "moadim", "--output-format", "stream-json"],
            ),
            first_prompt=["-i", "{prompt}"],
        ),
        Agent(
            "opencode",
            ["opencode", "run", "--auto", "--format", "json"],
            ["-s", "{session}"],
            _opencode,
            key="LOOPBACK_API_KEY",
            model="loopback/second",
            model_seen="second",
            prints_model=False,
            effort="high",
            counts_denied=True,
            default_permissions="edit",
            host=Host("opencode", ["opencode", "run", "--format", "json"]),
            first_prompt=None,
            session="sessionID",
        ),
        Agent(
            "qwen",
            ["qwen", "-y", "--output-format", "stream-json"],
            ["--resume", "{session}"],
            _qwen,
            key="OPENAI_API_KEY",
            model="second",
            model_seen="second",
            prints_model=True,
            counts_denied=True,
            default_permissions="files",
            host=Host(
                "qwen",
                ["qwen", "--allowed-tools", "mcp__moadim", "--output-format", "stream-json"],
                searches=True,
            ),
            first_prompt=["-i", "{prompt}"],
            long=True,
        ),
        Agent(
            "copilot",
            ["copilot", "--allow-all-tools", "--no-ask-user", "--output-format", "json"],
            ["--resume={session}"],
            _copilot,
            key="COPILOT_PROVIDER_API_KEY",
            model="second",
            model_seen="second",
            prints_model=True,
            prints_usage=False,
            counts_denied=True,
            default_permissions="edit",
            host=Host("copilot", ["copilot", "--allow-tool", "moadim", "--no-ask-user", "--output-format", "json"]),
            first_prompt=["-i", "{prompt}"],
            long=True,
            session="sessionId",
        ),
    ]
}


def environment(agent: Agent, home: Path, url: str, case: str) -> dict[str, str]:
    """What `agent` needs in its environment to work in `home` against the server. Makes its files there."""
    return QUIET | agent.configure(home, url, key_of(agent.name, case))


def subscription(agent: Agent, case: str) -> dict[str, str | None]:
    """The variables that a login with a usage limit changes."""
    key = key_of(agent.name, case)
    return {name: value and value.replace("{key}", key) for name, value in agent.subscription.items()}
