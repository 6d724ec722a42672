"""OpenAI's responses API, as Codex speaks it."""

import json

from .conversation import CACHED_TOKENS, INPUT_TOKENS, OUTPUT_TOKENS, Request, Reply, Tool, Turn
from .tools import text_of


def takes(method, path):
    return method == "POST" and path.rstrip("/").endswith("/responses")


def read(path, body):
    entries = body["input"]
    if isinstance(entries, str):
        entries = [{"role": "user", "content": entries}]
    return Request(
        model=body["model"],
        turns=[turn for turn in map(_turn, entries) if turn],
        tools=[tool for offered in body.get("tools", []) + _found(entries) for tool in _tools(offered)],
        effort=(body.get("reasoning") or {}).get("effort"),
        stream=body.get("stream", False),
    )


def _found(entries):
    """The tools that searches have found. They are offered from then on."""
    return [tool for entry in entries if entry.get("type") == "tool_search_output" for tool in entry["tools"]]


def _turn(entry):
    match entry.get("type", "message"):
        case "message":
            return Turn(entry["role"], _text(entry["content"]))
        case "function_call":
            return Turn("assistant", f"{entry['name']} {entry['arguments']}")
        case "custom_tool_call":
            return Turn("assistant", f"{entry['name']} {entry['input']}")
        case "tool_search_call":
            return Turn("assistant", f"tool_search {json.dumps(entry['arguments'])}")
        case "tool_search_output":
            return Turn("tool", json.dumps(entry["tools"]))
        case "function_call_output" | "custom_tool_call_output":
            return Turn("tool", _text(entry["output"]))
        case _:
            return None


def _text(content):
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content)


def _tools(offered):
    match offered["type"]:
        case "function":
            return [Tool(offered["name"])]
        case "custom":
            return [Tool(offered["name"], kind="custom")]
        case "namespace":
            return [Tool(tool["name"], group=offered["name"]) for tool in offered["tools"]]
        case kind:
            return [Tool(kind, kind=kind)]


def _items(reply, number):
    items = []
    if reply.text:
        content = [{"type": "output_text", "text": reply.text, "annotations": []}]
        items.append({"type": "message", "id": f"msg_{number}", "role": "assistant", "content": content})
    for call in reply.calls:
        item = {"id": f"item_{call.id}", "call_id": call.id}
        match call.tool.kind:
            case "custom":
                item |= {"type": "custom_tool_call", "name": call.tool.name, "input": text_of(call.arguments)}
            case "tool_search":
                item |= {"type": "tool_search_call", "execution": "client", "arguments": call.arguments}
            case _:
                item |= {"type": "function_call", "name": call.tool.name, "arguments": text_of(call.arguments)}
                item |= {"namespace": call.tool.group} if call.tool.group else {}
        items.append(item)
    return [item | {"status": "completed"} for item in items]


def whole(request: Request, reply: Reply, number):
    return {
        "id": f"resp_{number}",
        "object": "response",
        "model": request.model,
        "status": "completed",
        "output": _items(reply, number),
        "usage": {
            "input_tokens": INPUT_TOKENS,
            "input_tokens_details": {"cached_tokens": CACHED_TOKENS},
            "output_tokens": OUTPUT_TOKENS,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
        },
    }


def stream(request: Request, reply: Reply, number):
    done = whole(request, reply, number)
    started = done | {"status": "in_progress", "output": [], "usage": None}
    events = [{"type": "response.created", "response": started}]
    for index, item in enumerate(done["output"]):
        events.append({"type": "response.output_item.added", "output_index": index, "item": item})
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": "response.completed", "response": done})
    for sequence, event in enumerate(events):
        event["sequence_number"] = sequence
        yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


def error(status, message):
    kind = {401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(status, "server_error")
    return {}, {"error": {"type": kind, "code": kind, "message": message}}


def limit(resets_at):
    """The usage limit of a subscription."""
    said = {"type": "usage_limit_reached", "message": "The usage limit has been reached", "plan_type": "plus"}
    return {}, {"error": said | {"resets_at": resets_at}}
