"""The permissions as promised: at each level of an agent, what was really written."""

from functools import partial

from product import Product, ToolError
from programs import AGENTS
from stage import Stage, check

from . import Case

#: Whether each of these was written: by the file tool and by a command, in the workbench and outside of it.
NOTHING = {"tool": False, "command": False, "tool outside": False, "command outside": False}
PROMISED = {
    "read-only": NOTHING,
    "files": NOTHING | {"tool": True},
    "edit": NOTHING | {"tool": True, "command": True},
    "full": {"tool": True, "command": True, "tool outside": True, "command outside": True},
}
#: The levels of each agent. Where it differs from what the level promises, what it really does.
LEVELS = {
    "claude": ["read-only", "files", "edit", "full"],
    "codex": ["read-only", "edit", "full"],
    "gemini": ["read-only", "files", "full"],
    "opencode": ["read-only", "files", "edit", "full"],
    "qwen": ["read-only", "files", "full"],
    "copilot": ["read-only", "files", "edit", "full"],
}
#: Gemini CLI's file tool stays in its workspace whatever it may do; Qwen Code's goes anywhere as soon as it may write.
DIFFERENT = {
    ("gemini", "full"): {"tool outside": False},
    ("qwen", "files"): {"tool outside": True},
}


def as_promised(level, stage: Stage):
    outside = stage.outside
    steps = [
        {"tool": "write", "path": "tool.txt", "content": "x"},
        # Not a command that some agents let pass as harmless.
        {"tool": "bash", "command": "python3 -c 'open(\"command.txt\", \"w\")'"},
        {"tool": "write", "path": str(outside / "tool.txt"), "content": "x"},
        {"tool": "bash", "command": f"touch {outside}/command.txt"},
        {"text": "All done."},
    ]
    with Product(stage, **({"max_permissions": "full"} if level == "full" else {})) as product:
        run = product.succeed(*steps, options={"permissions": level})
        workbench = product.workbench(run)
        written = {
            "tool": (workbench / "tool.txt").exists(),
            "command": (workbench / "command.txt").exists(),
            "tool outside": (outside / "tool.txt").exists(),
            "command outside": (outside / "command.txt").exists(),
        }
        promised = PROMISED[level] | DIFFERENT.get((stage.agent.name, level), {})
        check(written == promised, f"written: {written}\npromised: {promised}\n{product.log(run['id'])}")
        check(len(stage.requests()) == len(steps), f"{len(stage.requests())} of {len(steps)} steps were played")


def goes_no_further_than_allowed(stage: Stage):
    """`full` is refused where nobody has allowed it, when a routine is created."""
    with Product(stage) as product:
        try:
            product.start({"text": "All done."}, options={"permissions": "full"})
        except ToolError as error:
            check("max_permissions" in str(error), f"the refusal does not name max_permissions: {error}")
        else:
            check(False, "it was created")


CASES: list[Case] = [
    *[
        Case(agent, f"permissions: {level}", partial(as_promised, level))
        for agent, levels in LEVELS.items()
        for level in levels
    ],
    *[Case(agent, "permissions: none beyond", goes_no_further_than_allowed) for agent in AGENTS],
]
