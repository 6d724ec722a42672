"""What a program sends to its model, in the same words for every API."""

from dataclasses import dataclass, field


@dataclass
class Turn:
    """One entry of a conversation: what a person, the model or a tool said."""

    role: str
    text: str


@dataclass
class Call:
    """A tool call that the model asks for."""

    id: str
    tool: "Tool"
    arguments: dict


@dataclass
class Tool:
    """A tool that the program offers."""

    name: str
    #: Codex groups the tools of an MCP server.
    group: str = ""
    #: What a call of it is in OpenAI's responses API, where there are several kinds.
    kind: str = "function"


@dataclass
class Request:
    """A request for the next turn of a conversation."""

    model: str
    turns: list[Turn]
    tools: list[Tool] = field(default_factory=list)
    effort: str | None = None
    stream: bool = True
    #: The JSON schema that the answer has to follow, if any.
    schema: dict | None = None


@dataclass
class Reply:
    """A turn of the model: text, tool calls or both."""

    text: str = ""
    calls: list[Call] = field(default_factory=list)


#: What each turn is said to have used.
INPUT_TOKENS = 1000
CACHED_TOKENS = 200
OUTPUT_TOKENS = 50
