"""The official Python client does every job: client.py MODE SERVER [ARGUMENT...]"""

import json
import os
import sys
import traceback
import warnings
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.extension import ClientExtension, ResultClaim
from mcp.types import (
    CallToolResult,
    ElicitResult,
    PromptReference,
    Request,
    RequestParams,
    ResourceTemplateReference,
    ResourceUpdatedNotification,
    Result,
)
from mcp.shared.exceptions import MCPDeprecationWarning

PATIENCE = 20
AT_ONCE = 1.5

# Prints nothing before it is let go, so that whoever wants to hear of it is there in time.
COUNTING = 'while [ ! -e go ]; do sleep 0.05; done; for n in 1 2 3 4; do echo "line $n"; sleep 0.4; done'
LONG = "echo started; sleep 60"
COUNTED = "line 1\nline 2\nline 3\nline 4\n"

MODE, COMMAND, *ARGUMENTS = sys.argv[1:]
MODERN = MODE != "legacy"


def run_uri(run):
    return f"moadim://runs/{run}"


def log_uri(run):
    return f"moadim://runs/{run}/log"


def routine_uri(routine):
    return f"moadim://routines/{routine}"


class Host:
    """The client's own words for the few things that are done here."""

    def __init__(self, client):
        self.client = client

    @classmethod
    @asynccontextmanager
    async def connect(cls, **wishes):
        heard = set()

        async def hear(message):
            if isinstance(message, ResourceUpdatedNotification):
                for tell in list(heard):
                    tell(str(message.params.uri))

        server = StdioServerParameters(command=COMMAND, args=ARGUMENTS, env=dict(os.environ))
        async with Client(server, mode=MODE, message_handler=hear, **wishes) as client:
            assert (client.protocol_version == "2026-07-28") == MODERN, client.protocol_version
            host = cls(client)
            host.heard = heard
            yield host

    async def tools(self):
        return (await self.client.list_tools(cache_mode="refresh")).tools

    async def call(self, name, **given):
        """Gives the structure of an answer, which its text must hold too: hosts show one or the other."""
        answer = await self.client.call_tool(name, given)
        text = "\n".join(block.text for block in answer.content)
        if answer.is_error:
            raise ToolError(text)
        assert json.loads(text) == answer.structured_content, text
        return answer.structured_content

    async def read(self, uri):
        (content,) = (await self.client.read_resource(uri)).contents
        return content.text

    async def status(self, run):
        return (await self.call("get_run", run=run))["run"]["status"]

    async def complete(self, ref, name, value):
        return (await self.client.complete(ref, {"name": name, "value": value})).completion.values

    @asynccontextmanager
    async def subscribed(self, uris, tell):
        """One `listen` for all of them in the modern era, a request for each in the one before."""
        if MODERN:
            async with self.client.listen(resource_subscriptions=uris) as listening, anyio.create_task_group() as tasks:
                assert listening.honored.resource_subscriptions == uris, listening.honored

                async def follow():
                    async for event in listening:
                        tell(str(event.uri))

                tasks.start_soon(follow)
                yield
                tasks.cancel_scope.cancel()
            return
        self.heard.add(tell)
        for uri in uris:
            await self.client.subscribe_resource(uri)
        yield
        self.heard.remove(tell)
        for uri in uris:
            await self.client.unsubscribe_resource(uri)


class ToolError(Exception):
    """A tool's answer that is an error."""


async def refused(host, tool, words, **given):
    """Makes a call that has to fail, with these words."""
    try:
        raise AssertionError(f"{tool} did {await host.call(tool, **given)}")
    except ToolError as error:
        assert words in str(error), error


async def until(what, look):
    """Asks `look` again and again until it gives something."""
    with anyio.move_on_after(PATIENCE):
        while True:
            seen = await look()
            if seen:
                return seen
            await anyio.sleep(0.05)
    raise AssertionError(f"waited in vain for {what}")


async def main_job():
    """Creates, triggers, follows, waits, reads, cancels, stops, cleans up, deletes."""
    async with Host.connect() as host:
        await tools_are_listed_the_same_twice(host)
        await create(host, "Counting", COUNTING)
        await create(host, "Long", LONG)
        counted = await a_run_is_followed_to_its_end(host, "counting")
        stopped = await a_wait_is_cancelled_and_a_run_stopped(host, "long")
        await what_is_there_is_shown_in_other_ways(host, counted["id"])
        await what_has_expired_is_removed(host, [counted, stopped])
        for routine in ("counting", "long"):
            assert (await host.call("delete_routine", routine=routine))["deleted"] == routine
        health = await host.call("health")
        assert health["problems"] == [] and health["routines"] == 0, health


async def tools_are_listed_the_same_twice(host):
    tools = await host.tools()
    names = {tool.name for tool in tools}
    wanted = {"create_routine", "trigger_routine", "wait_run", "read_log", "stop_run", "cleanup_workbenches"}
    assert wanted <= names, names
    assert all(tool.title and tool.description and tool.output_schema for tool in tools)
    assert await host.tools() == tools, "the tools are not the same at the second look"


async def create(host, title, prompt):
    wanted = {"title": title, "prompt": prompt, "agent": "shell", "ttl_secs": 1, "failed_ttl_secs": 1}
    routine = (await host.call("create_routine", **wanted))["routine"]
    assert (routine["slug"], routine["title"], routine["ttl_secs"]) == (title.lower(), title, 1), routine


async def trigger(host, routine):
    run = (await host.call("trigger_routine", routine=routine))["run"]
    assert (run["routine"], run["status"]) == (routine, "running"), run
    return run


def let_go(run):
    """Lets a run go that counts."""
    Path(run["workbench"], "go").touch()


async def a_run_is_followed_to_its_end(host, routine):
    triggered = await trigger(host, routine)
    run = triggered["id"]
    told = []

    async def told_of(uri):
        return any(told_uri == uri for told_uri, _ in told)

    async with host.subscribed([run_uri(run), log_uri(run)], lambda uri: told.append((uri, anyio.current_time()))):
        let_go(triggered)
        await until("word of its first line", lambda: told_of(log_uri(run)))

        async def shows_a_line():
            return "line 1" in await host.read(log_uri(run))

        await until("that line in its log", shows_a_line)
        waited = await host.call("wait_run", run=run, timeout_secs=30)
        assert waited["finished"], waited
        assert (waited["run"]["status"], waited["run"]["exit_code"]) == ("succeeded", 0), waited
        await until("word of its end", lambda: told_of(run_uri(run)))

        assert (await host.call("read_log", run=run))["text"] == COUNTED
        assert await host.read(log_uri(run)) == COUNTED
        shown = json.loads(await host.read(run_uri(run)))
        assert shown.get("run", shown)["status"] == "succeeded", shown
    only_what_was_asked_for_and_not_too_often(told, {run_uri(run), log_uri(run)})
    return waited["run"]


def only_what_was_asked_for_and_not_too_often(told, asked):
    """At most two a second for one resource; where a second begins is not for a client to know."""
    assert {uri for uri, _ in told} <= asked, told
    for uri in asked:
        times = [at for told_uri, at in told if told_uri == uri]
        assert len(times) <= 2 * (times[-1] - times[0] + 1) + 1, told


async def a_wait_is_cancelled_and_a_run_stopped(host, routine):
    run = (await trigger(host, routine))["id"]
    answers = []

    async def wait():
        answers.append(await host.call("wait_run", run=run, timeout_secs=50))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        # The wait goes out with the next turn, and the server takes requests in their order.
        await anyio.sleep(0.01)
        await host.call("health")
        began = anyio.current_time()
        tasks.cancel_scope.cancel()
    assert answers == [], "a cancelled call has no answer"
    assert await host.status(run) == "running", "a cancelled wait leaves its run alone"
    assert anyio.current_time() - began < AT_ONCE, "cancelling a call took long"

    # This client said of nobody that they can be asked.
    await refused(host, "delete_routine", "confirm = true", routine=routine)
    assert await host.status(run) == "running"

    stopped = (await host.call("stop_run", run=run))["run"]
    assert stopped["status"] == "stopped", stopped
    return stopped


async def what_is_there_is_shown_in_other_ways(host, run):
    uris = {str(resource.uri) for resource in (await host.client.list_resources()).resources}
    assert {"moadim://health", "moadim://usage", routine_uri("counting")} <= uris, uris
    templates = (await host.client.list_resource_templates()).resource_templates
    assert {one.uri_template for one in templates} == {routine_uri("{routine}"), run_uri("{run}"), log_uri("{run}")}
    assert json.loads(await host.read(routine_uri("counting")))["prompt"] == COUNTING
    try:
        raise AssertionError(await host.read(run_uri("no-such-run-1")))
    except MCPError as refused:
        assert "no-such-run-1" in str(refused), refused

    runs, routines = (ResourceTemplateReference(uri=uri) for uri in (run_uri("{run}"), routine_uri("{routine}")))
    assert run in await host.complete(runs, "run", "counting-")
    assert await host.complete(routines, "routine", "cou") == ["counting"]

    prompts = {prompt.name for prompt in (await host.client.list_prompts()).prompts}
    assert prompts == {"diagnose_run", "morning_report", "new_routine"}, prompts
    assert run in await host.complete(PromptReference(name="diagnose_run"), "run", "counting-")
    message = (await host.client.get_prompt("diagnose_run", {"run": run})).messages[0]
    assert run in message.content.text, message


async def what_has_expired_is_removed(host, runs):
    ids = sorted(run["id"] for run in runs)
    workbenches = [Path(run["workbench"]) for run in runs]
    told = []

    async def plan_for_all():
        plan = await host.call("cleanup_workbenches", dry_run=True)
        return len(plan["removed"]) == len(ids) and plan

    def removed(answer):
        return sorted(one["run"] for one in answer["removed"])

    async with host.subscribed([run_uri(run) for run in ids], told.append):
        plan = await until("their retention to pass", plan_for_all)
        assert plan["dry_run"] and removed(plan) == ids, plan
        assert all(path.exists() for path in workbenches), "gone after a dry run"

        done = await host.call("cleanup_workbenches", confirm=True)
        assert removed(done) == ids, "the real run does what the dry run said"
        assert done["failed"] == [] and done["freed_bytes"] > 0, done
        assert not any(path.exists() for path in workbenches), "still there"

        async def told_of_all():
            return all(run_uri(run) in told for run in ids)

        await until("word of what was removed", told_of_all)
    listed = (await host.call("list_runs"))["runs"]
    assert sorted((run["id"], run["status"]) for run in listed) == [(run, "reaped") for run in ids], listed


async def asking_job():
    """Deletes a routine that has a live run: the person says no in every way, and then yes."""
    questions = []
    answer = None

    async def ask(_context, question):
        questions.append(question)
        return answer

    async with Host.connect(elicitation_callback=ask) as host:
        await create(host, "Long", LONG)
        run = (await trigger(host, "long"))["id"]
        for answer in (
            ElicitResult(action="decline"),
            ElicitResult(action="cancel"),
            ElicitResult(action="accept", content={"confirm": "No, leave it"}),
        ):
            await refused(host, "delete_routine", "not done", routine="long")
            assert await host.status(run) == "running"
        answer = ElicitResult(action="accept", content={"confirm": "Yes, do it"})
        done = await host.call("delete_routine", routine="long")
        assert (done["deleted"], done["stopped"]) == ("long", [run]), done
        assert await host.status(run) == "stopped"
        assert (await host.call("list_routines"))["routines"] == []
    assert len(questions) == 4
    for question in questions:
        assert "long" in question.message and run in question.message, question
        assert question.requested_schema["required"] == ["confirm"], question
        choices = question.requested_schema["properties"]["confirm"]["enum"]
        assert choices == ["No, leave it", "Yes, do it"], question


class Task(Result):
    """A task as it is at one moment; a call may be answered with it."""

    result_type: Literal["task"] = "task"
    task_id: str
    status: str


class Look(Result):
    """A look at a task."""

    task_id: str
    status: str
    result: dict[str, Any] | None = None


class TaskParams(RequestParams):
    task_id: str


class GetTask(Request[TaskParams, Literal["tasks/get"]]):
    method: Literal["tasks/get"] = "tasks/get"


class CancelTask(Request[TaskParams, Literal["tasks/cancel"]]):
    method: Literal["tasks/cancel"] = "tasks/cancel"


async def look(session, task):
    return await session.send_request(GetTask(params=TaskParams(task_id=task)), Look)


class Tasks(ClientExtension):
    """What a host brings along that takes tasks: a call that is answered with one goes on until that is over."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self):
        self.followed = []

    def claims(self):
        return [ResultClaim(result_type="task", model=Task, resolve=self.follow)]

    async def follow(self, task, context):
        self.followed.append(task.task_id)

        async def result():
            seen = await look(context.session, task.task_id)
            assert seen.status in ("working", "completed"), seen
            return seen.result

        result = await until("the end of a task", result)
        return CallToolResult.model_validate({**result, "resultType": "complete"}, by_name=False)


async def task_job():
    """Waits for a run as for a task, and cancels a task."""
    tasks = Tasks()
    async with Host.connect(extensions=[tasks]) as host:
        await create(host, "Counting", COUNTING)
        await create(host, "Long", LONG)
        triggered = await trigger(host, "counting")
        run = triggered["id"]
        let_go(triggered)
        waited = await host.call("wait_run", run=run)
        assert tasks.followed == [run]
        assert waited["finished"] and waited["run"]["status"] == "succeeded", waited

        session = host.client.session
        long = await session.call_tool("trigger_routine", {"routine": "long", "wait": True}, allow_claimed=True)
        assert isinstance(long, Task) and long.task_id.startswith("long-"), long
        assert await host.status(long.task_id) == "running"
        await session.send_request(CancelTask(params=TaskParams(task_id=long.task_id)), Result)

        async def is_cancelled():
            return (await look(session, long.task_id)).status == "cancelled"

        await until("the end of its run", is_cancelled)
        assert await host.status(long.task_id) == "stopped"
        for routine in ("counting", "long"):
            await host.call("delete_routine", routine=routine)


async def every_job():
    # Tasks are of the modern era here: what its forerunner had under that name is another thing.
    for job in [main_job, asking_job, *([task_job] if MODERN else [])]:
        await job()


if __name__ == "__main__":
    # A legacy connection uses what is gone in the modern era; that is the point.
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    try:
        anyio.run(every_job)
    except BaseException as error:
        # The one that began it, without the groups around it.
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        traceback.print_exception(error)
        sys.exit(1)
