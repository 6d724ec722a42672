"""The product, as a host drives it: JSON-RPC over stdio, in a moadim home of its own."""

import json
import queue
import subprocess
import threading
from pathlib import Path

from stage import PATIENCE_SECS, PROCESSES, Failed, Stage, check, kill_group, processes_of, prompt, until

LIVE = ("preparing", "running")


class ToolError(Failed):
    """A tool's answer that is an error."""


def make_home(stage: Stage, **config) -> Path:
    """A moadim home in which agents find the model server, and with these keys in its config.toml."""
    home = stage.folder / "moadim"
    (home / "agents").mkdir(parents=True)
    home.chmod(0o700)
    config = {"session_host": "detached", "kill_grace_secs": 1} | config
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in config.items()]
    (home / "config.toml").write_text("".join(lines), encoding="utf-8")
    add_agent_variables(home, stage.agent.name, stage.agent_environment())
    return home


def add_agent_variables(home: Path, agent: str, variables):
    """Gives an agent variables, as a person does. Its built-in definition stays as it is."""
    file = home / "agents" / f"{agent}.env"
    file.write_text("".join(f"{name}={value}\n" for name, value in variables.items()), encoding="utf-8")
    file.chmod(0o600)


class Product:
    """A server, and the routine `work` that most cases need. Ends with its `with` block."""

    def __init__(self, stage: Stage, **config):
        self.stage = stage
        self.home = make_home(stage, **config)
        self._answers = queue.Queue()
        self._number = 0

    def __enter__(self):
        environment = self.stage.environment() | {"MOADIM_HOME": str(self.home)}
        self._process = PROCESSES.start(
            [self.stage.product],
            cwd=self.stage.folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        threading.Thread(target=self._listen, daemon=True).start()
        me = {"name": "tests-agents", "version": "1"}
        self._request("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": me})
        self._send({"method": "notifications/initialized"})
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            kill_group(self._process)
            self._process.wait()

    def _listen(self):
        for line in self._process.stdout:
            self._answers.put(json.loads(line))
        self._answers.put(None)

    def _send(self, message):
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0"} | message).encode() + b"\n")
        self._process.stdin.flush()

    def _request(self, method, parameters):
        self._number += 1
        self._send({"id": self._number, "method": method, "params": parameters})
        while True:
            try:
                message = self._answers.get(timeout=PATIENCE_SECS)
            except queue.Empty:
                raise Failed(f"the server does not answer {method}") from None
            check(message is not None, f"the server ended before it answered {method}")
            if message.get("id") != self._number or "method" in message:
                continue
            if "error" in message:
                raise ToolError(json.dumps(message["error"]))
            return message["result"]

    def call(self, tool, **arguments):
        """The structure of a tool's answer."""
        answer = self._request("tools/call", {"name": tool, "arguments": arguments})
        if answer.get("isError"):
            raise ToolError("\n".join(block.get("text", "") for block in answer["content"]))
        return answer["structuredContent"]

    def command(self, *words) -> str:
        """What a command of a person prints."""
        done = self.stage.execute_as_person([str(self.stage.product), *words], MOADIM_HOME=str(self.home))
        check(done.exit == 0, f"{' '.join(words)} exited with {done.exit}:\n{done.out}\n{done.err}")
        return done.out

    # -- what cases do ------------------------------------------------------------------------------------------------

    def create(self, *steps, **fields):
        """Creates the routine `work` with a script."""
        fields = {"title": "Work", "slug": "work", "agent": self.stage.agent.name, "max_runtime_secs": 120} | fields
        self.call("create_routine", prompt=prompt(*steps), **fields)

    def start(self, *steps, **fields) -> str:
        """Creates the routine, and triggers it. Gives the run."""
        self.create(*steps, **fields)
        return self.trigger()

    def trigger(self, **fields) -> str:
        return self.call("trigger_routine", routine="work", **fields)["run"]["id"]

    def wait(self, run, secs=PATIENCE_SECS) -> dict:
        """Waits until a run is over. Gives what get_run says, the run's own fields and the others in one."""
        until(f"the end of {run}", lambda: self.call("wait_run", run=run, timeout_secs=20)["finished"], secs)
        return self.get(run)

    def answer(self, run, *text) -> dict:
        """Answers a run as a person does, and waits for the run that goes on."""
        return self.wait(self.command("answer", run, *text).strip())

    def held_until(self, agent):
        """Until when the scheduled runs of an agent wait; None if they do not."""
        agents = self.call("list_agents")["agents"]
        return next(one for one in agents if one["name"] == agent).get("held_until")

    def get(self, run) -> dict:
        answer = self.call("get_run", run=run)
        return answer | answer["run"]

    def run(self, *steps, secs=PATIENCE_SECS, **fields) -> dict:
        """Creates the routine, and waits for its run."""
        return self.wait(self.start(*steps, **fields), secs)

    def succeed(self, *steps, **fields) -> dict:
        run = self.run(*steps, **fields)
        if run["status"] != "succeeded":
            raise Failed(f"{run['status']}: {run.get('status_reason')}\n{self.log(run['id'])}")
        return run

    def log(self, run, **arguments) -> str:
        return self.call("read_log", run=run, **arguments)["text"]

    def workbench(self, run: dict) -> Path:
        return Path(run["workbench"])

    def processes(self) -> dict[int, str]:
        """What has been started here, by pid."""
        return processes_of(self.stage.folder)

    def workers(self, run) -> dict[int, str]:
        """The processes that work in a run's workbench."""
        return {pid: command for pid, command in self.processes().items() if works_in(pid, self.home, run)}

    def until_it_works(self, run, words) -> str:
        """Waits until the log of a running run has these words. Gives the log."""

        def look():
            text = self.log(run)
            check(words in text or self.get(run)["status"] in LIVE, f"the run ended without {words!r} in its log:\n{text}")
            return text if words in text else None

        return until(f"{words!r} in the log", look)


def works_in(pid, home, run):
    try:
        return Path(f"/proc/{pid}/cwd").resolve().is_relative_to(home / "workbenches" / run)
    except OSError:
        return False


def set_up_host(stage: Stage, host: str, home: Path):
    """Adds the product to a host's configuration, as a person does."""
    command = [str(stage.product), "setup", host]
    done = stage.execute(command, MOADIM_HOME=str(home))
    check(done.exit == 0, f"setup {host} exited with {done.exit}:\n{done.out}\n{done.err}")
    return done.out
