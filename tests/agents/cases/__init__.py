"""The cases, each a function that plays one with one agent on a stage of its own."""

from dataclasses import dataclass
from typing import Callable

from stage import Stage


@dataclass
class Case:
    """A case of an agent. Its name begins with the agent's: `claude resume`."""

    agent: str
    what: str
    play: Callable[[Stage], None]
    #: Whether it is played with --long alone.
    long: bool = False

    @property
    def name(self):
        return f"{self.agent} {self.what}"


def each(agents, what, play, **fields):
    """The same case of several agents."""
    return [Case(agent, what, play, **fields) for agent in agents]
