"""OpenAI's chat completions API, as opencode, Qwen Code and Copilot CLI speak it."""

import json

from .conversation import CACHED_TOKENS, INPUT_TOKENS, OUTPUT_TOKENS, Request, Reply, Tool, Turn
from .openai_responses import error
from .tools import text_of

__all__ = ["error", "limit", "read", "stream", "takes", "whole"]


def takes(method, path):
    return method == "POST" and path.rstrip("/").endswith("/chat/completions")


def read(path, body):
    turns = []
    for message in body["messages"]:
        if message["role"] in ("system", "developer"):
            continue
        text = _text(message.get("content"))
        if message.get("tool_calls"):
            text += " ".join(json.dumps(call["function"]) for call in message["tool_calls"])
        turns.append(Turn(message["role"], text))
    return Request(
        model=body["model"],
        turns=turns,
        tools=[Tool(tool["function"]["name"]) for tool in body.get("tools") or []],
        effort=body.get("reasoning_effort"),
        stream=body.get("stream", False),
        schema=(body.get("response_format") or {}).get("json_schema", {}).get("schema"),
    )


def _text(content):
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part.get("text", "") for part in content)


USAGE = {
    "prompt_tokens": INPUT_TOKENS,
    "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
    "completion_tokens": OUTPUT_TOKENS,
    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
}


def _message(reply):
    message = {"role": "assistant", "content": reply.text or None}
    if reply.calls:
        message["tool_calls"] = [
            {
                "index": index,
                "id": call.id,
                "type": "function",
                "function": {"name": call.tool.name, "arguments": text_of(call.arguments)},
            }
            for index, call in enumerate(reply.calls)
        ]
    return message


def _answer(request, number, kind, **choice):
    choices = [{"index": 0} | choice] if choice else []
    return {"id": f"chatcmpl-{number}", "object": kind, "created": 0, "model": request.model, "choices": choices}


def _reason(reply):
    return "tool_calls" if reply.calls else "stop"


def whole(request: Request, reply: Reply, number):
    answer = _answer(request, number, "chat.completion", message=_message(reply), finish_reason=_reason(reply))
    return answer | {"usage": USAGE}


def stream(request: Request, reply: Reply, number):
    kind = "chat.completion.chunk"
    for chunk in (
        _answer(request, number, kind, delta=_message(reply), finish_reason=None),
        _answer(request, number, kind, delta={}, finish_reason=_reason(reply)),
        _answer(request, number, kind) | {"usage": USAGE},
    ):
        yield f"data: {json.dumps(chunk)}\n\n"
    yield "data: [DONE]\n\n"


def limit(resets_at):
    """A limit that has no time in it. Programs take it for one of a minute, and try again."""
    return error(429, "Rate limit reached for requests per day.")
