"""Where a case is played: folders, an environment made from nothing, and an end to all that was started."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import programs
from model.server import ModelServer
from programs import Agent
from terminal import Terminal

#: The longest that a program may take by itself. Idle machines need a tenth of it.
PATIENCE_SECS = 60


class Failed(AssertionError):
    """A case that did not go as promised."""


def check(promised, what):
    """Fails the case with `what` unless `promised`."""
    if not promised:
        raise Failed(what)


def until(what, look, secs=PATIENCE_SECS):
    """Asks `look` again and again until it gives something."""
    deadline = time.monotonic() + secs
    while time.monotonic() < deadline:
        seen = look()
        if seen:
            return seen
        time.sleep(0.1)
    raise Failed(f"waited {secs} s in vain for {what}")


class Processes:
    """All that is started here, in sessions of their own. Once it is closed nothing is started any more."""

    def __init__(self):
        self._lock = threading.Lock()
        self._is_closed = False

    def start(self, command, **how) -> subprocess.Popen:
        with self._lock:
            check(not self._is_closed, "it is over")
            return subprocess.Popen(command, start_new_session=True, **how)

    def close(self):
        with self._lock:
            self._is_closed = True


PROCESSES = Processes()


@dataclass
class Ended:
    """A program that ended by itself."""

    exit: int
    out: str
    err: str

    def lines(self):
        return [line for line in self.out.split("\n") if line]


def prompt(*steps) -> str:
    """A prompt with a script."""
    return f"Do as the script says.\nSCRIPT: {json.dumps(steps)}\n"


@dataclass
class Stage:
    """One case's folders and what it may use. All that is started has `folder` in its environment."""

    agent: Agent
    case: str
    folder: Path
    server: ModelServer
    bin: Path
    product: Path
    #: Variables that replace those of the agent's table; None takes one away.
    changed: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self):
        for folder in (self.user, self.workbench, self.outside, self.folder / "tmp"):
            folder.mkdir(parents=True)
        # As a person would: a login shell finds the programs, too.
        (self.user / ".profile").write_text(f'PATH="{self.bin}:$PATH"\n', encoding="utf-8")
        self.variables = programs.environment(self.agent, self.user, self.server.url, self.case)

    @property
    def user(self):
        """The home directory."""
        return self.folder / "user"

    @property
    def workbench(self):
        """Where programs work without the product."""
        return self.folder / "workbench"

    @property
    def outside(self):
        """A folder that an agent may write to at most with full rights."""
        return self.folder / "outside"

    def agent_environment(self):
        """The variables that point the agent at the model server."""
        variables = self.variables | self.changed
        return {name: value for name, value in variables.items() if value is not None}

    def environment(self):
        """The variables of a person's session. None of the agent's is among them."""
        return {
            "HOME": str(self.user),
            "PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin",
            "SHELL": "/bin/bash",
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "TMPDIR": str(self.folder / "tmp"),
        }

    def execute(self, command, text="", **variables) -> Ended:
        """Runs a command to its end, with the agent's variables."""
        return self.execute_as_person(command, text, **(self.agent_environment() | variables))

    def execute_as_person(self, command, text="", secs=PATIENCE_SECS, **variables) -> Ended:
        """Runs a command to its end, with the variables of a person's session and these."""
        process = PROCESSES.start(
            command,
            cwd=self.workbench,
            env=self.environment() | {"PWD": str(self.workbench)} | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        try:
            out, err = process.communicate(text, timeout=secs)
        except subprocess.TimeoutExpired:
            kill_group(process)
            out, err = process.communicate()
            raise Failed(f"{command[0]} did not end in {secs} s. It printed:\n{out}\n{err}") from None
        return Ended(process.returncode, out, err)

    def alone(self, *steps, session=None, options=(), **variables) -> Ended:
        """Runs the agent without the product, unattended and with rights to write."""
        command = self.agent.command + list(options)
        if session:
            command += [word.replace("{session}", session) for word in self.agent.resume]
        command += self.agent.prompt_from_stdin
        return self.execute(command, prompt(*steps), **variables)

    def in_terminal(self, command, directory, words, steps, look):
        """Types a shell command in a terminal, and gives the program that it starts a prompt with these steps. Gives what
        `look` gives in the end. Programs that take no first prompt show `words` when they are ready."""
        text = "Go on. " + prompt(*steps).splitlines()[-1]
        first = self.agent.first_prompt
        if first is not None:
            command += " " + shlex.join(word.replace("{prompt}", text) for word in first)
        environment = self.environment() | {"PWD": str(directory)} | self.agent_environment()
        with Terminal(PROCESSES.start, command, directory, environment) as terminal:
            if first is None:
                terminal.until_it_shows(words)
                terminal.paste(text)
            deadline = time.monotonic() + PATIENCE_SECS
            while time.monotonic() < deadline:
                found = look()
                if found is not None:
                    return found
                if first is None:
                    terminal.enter()
                terminal.read(1)
            raise Failed(f"{command} sent nothing in {PATIENCE_SECS} s. The terminal shows:\n{terminal.shown()[-2000:]}")

    def requests(self, steps_only=True):
        """What the server saw of this case."""
        return [
            seen
            for seen in self.server.seen()
            if (seen["agent"], seen["case"]) == (self.agent.name, self.case)
            and (seen.get("step") is not None or not steps_only)
        ]

    def left(self):
        """What is still there after the moment in which supervisors go."""
        deadline = time.monotonic() + 5
        while (left := processes_of(self.folder)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left


def kill_group(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def processes_of(folder) -> dict[int, str]:
    """The processes that have `folder` in their environment or command line, this one aside."""
    marker, found = os.fsencode(folder) + b"/", {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            # Dead ones that nobody has waited for yet have no command line.
            if command and (marker in command or marker in (entry / "environ").read_bytes()):
                found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace").strip()[:200]
        except OSError:
            continue
    return found


def end_processes(folder):
    """Kills what a case has started, whatever became of the parents."""
    for _ in range(20):
        left = processes_of(folder)
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.05)


def scratch_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="agents.")).resolve()
