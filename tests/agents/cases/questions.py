"""The loop of questions: a run asks, somebody answers, and another run goes on in its session."""

import json
import re
from functools import partial

from model.conversation import CACHED_TOKENS, INPUT_TOKENS, OUTPUT_TOKENS
from product import Product
from programs import AGENTS
from stage import Failed, Stage, check, prompt, until

from . import Case, each
from .runs import report_of

QUESTION = "# Which database?\n\nBoth are there.\n\n- Postgres\n- SQLite\n"


def succeeded(product: Product, run):
    if run["status"] != "succeeded":
        raise Failed(f"{run['status']}: {run.get('status_reason')}\n{product.log(run['id'])}")
    return run


def asked(product: Product, run, kind="decision"):
    """The question of a run that ended with one."""
    if run["status"] != "asked":
        raise Failed(f"{run['status']}: {run.get('status_reason')}\n{product.log(run['id'])}")
    question = run["question"]
    check(question["kind"] == kind and question["state"] == "open", f"the question is {question}")
    return question


def goes_on_from(product: Product, run, before):
    """Whether a run went on where the other ended: in its workbench and in its session."""
    check(run.get("continues") == before["id"], f"it continues {run.get('continues')} instead of {before['id']}")
    check(product.get(before["id"]).get("continued_by") == run["id"], f"{before['id']} does not say what continues it")
    check(run["workbench"] == before["workbench"], f"its workbench is {run['workbench']}, and was {before['workbench']}")
    sessions = [report_of(one).get("session_id") for one in (before, run)]
    check(sessions[0] == sessions[1] and sessions[0], f"the sessions are {sessions}")


def conversation_at(stage: Stage, step):
    """What the model had read when it came to a step."""
    found = [seen["turns"] for seen in stage.requests() if seen["step"] == step]
    check(found, f"the model never came to {step}; it came to {[seen['step'] for seen in stage.requests()]}")
    return found[0]


def was_read(turns, *words):
    """Whether a conversation has these words, in this order, and which turn has each."""
    at = 0
    for wanted in words:
        at = next((n for n in range(at, len(turns)) if wanted in turns[n]["text"]), None)
        check(at is not None, f"the model did not read {wanted!r} where it should: {turns}")


def of_session(product: Product, run):
    """What the agent itself said that its session used, where it says so."""
    log = (product.workbench(run) / "agent.log").read_text(encoding="utf-8", errors="replace")
    events = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    match run["agent"]:
        case "claude":
            models = [event for event in events if event["type"] == "result"][-1]["modelUsage"].values()
            inputs = ("inputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
            return sum(model[name] for model in models for name in inputs), sum(model["outputTokens"] for model in models)
        case "codex":
            usage = [event for event in events if event["type"] == "turn.completed"][-1]["usage"]
        case "qwen":
            usage = [event for event in events if event["type"] == "result"][-1]["usage"]
    return usage["input_tokens"], usage["output_tokens"]


def asks_and_goes_on(stage: Stage):
    """A run asks by its file, is answered, and the next is given more to do: one session, and each figure once."""
    steps = [
        {"tool": "write", "path": "question.md", "content": QUESTION},
        {"text": "I have asked."},
        {"tool": "write", "path": "report.md", "content": "# Postgres it is."},
        {"text": "It is done."},
    ]
    more = [{"tool": "write", "path": "fixed.txt", "content": "fixed"}, {"text": "It is fixed."}]
    with Product(stage, answers_from="anyone") as product:
        first = product.run(*steps)
        question = asked(product, first)
        check(question["text"].startswith("# Which database?"), f"the question is {question}")
        check(question["options"] == ["Postgres", "SQLite"], f"the options are {question['options']}")
        print(stage.agent.name, [ (x["step"], len(x["turns"])) for x in stage.requests()], flush=True)

        second = succeeded(product, product.answer(first["id"], "Postgres"))
        goes_on_from(product, second, first)
        check(second["report"]["headline"] == "Postgres it is.", f"the report is {second['report']}")
        was_read(conversation_at(stage, steps[2]), "SCRIPT:", "I have asked.", "Postgres\n[end")
        check(not (product.workbench(second) / "question.md").exists(), "the question is still there")
        question = product.get(first["id"])["question"]
        check((question["state"], question["answer"]) == ("answered", "Postgres"), f"the question is {question}")
        print(stage.agent.name, "S1", report_of(first).get("usage"), report_of(second).get("usage"), [ (x["step"], len(x["turns"])) for x in stage.requests(False)], flush=True)
        if stage.agent.name in ("claude","codex","qwen"): print(stage.agent.name, "total", of_session(product, second), flush=True)

        text = f"Now fix the failing test.\n{prompt(*more)}"
        third = product.call("continue_run", run=second["id"], text=text)["run"]["id"]
        third = succeeded(product, product.wait(third))
        goes_on_from(product, third, second)
        was_read(conversation_at(stage, more[0]), "I have asked.", "Postgres\n[end", "It is done.", "Now fix the failing test.")
        check((product.workbench(third) / "fixed.txt").exists(), "nothing was fixed")
        print(stage.agent.name, "S2", report_of(third).get("usage"), flush=True)
        if stage.agent.name in ("claude","codex","qwen"): print(stage.agent.name, "total", of_session(product, third), flush=True)


CASES: list[Case] = [
    *each(AGENTS, "question: asks and goes on", asks_and_goes_on),
]
