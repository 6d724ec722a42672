"""Anthropic's messages API, as Claude Code speaks it."""

import json

from .conversation import CACHED_TOKENS, INPUT_TOKENS, OUTPUT_TOKENS, Request, Reply, Tool, Turn

ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def takes(method, path):
    return method == "POST" and path.rstrip("/").endswith("/v1/messages")


def read(path, body):
    turns = []
    for message in body["messages"]:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        turns += [_turn(message["role"], block) for block in blocks]
    return Request(
        model=body["model"],
        turns=turns,
        tools=[Tool(tool["name"]) for tool in body.get("tools", []) if "name" in tool],
        effort=body.get("output_config", {}).get("effort"),
        stream=body.get("stream", False),
        schema=body.get("output_config", {}).get("format", {}).get("schema"),
    )


def _turn(role, block):
    match block["type"]:
        case "text":
            return Turn(role, block["text"])
        case "tool_result":
            content = block.get("content", "")
            if not isinstance(content, str):
                content = "\n".join(part.get("text", json.dumps(part)) for part in content)
            return Turn("tool", content)
        case "tool_use":
            return Turn("assistant", f"{block['name']} {json.dumps(block['input'])}")
        case _:
            return Turn(role, "")


def _usage(output):
    return {
        "input_tokens": INPUT_TOKENS,
        "output_tokens": output,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": CACHED_TOKENS,
    }


def _blocks(reply):
    blocks = [{"type": "text", "text": reply.text}] if reply.text else []
    return blocks + [
        {"type": "tool_use", "id": f"toolu_{call.id}", "name": call.tool.name, "input": call.arguments}
        for call in reply.calls
    ]


def whole(request: Request, reply: Reply, number):
    return {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": _blocks(reply),
        "stop_reason": "tool_use" if reply.calls else "end_turn",
        "stop_sequence": None,
        "usage": _usage(OUTPUT_TOKENS),
    }


def stream(request: Request, reply: Reply, number):
    for event in _events(request, reply, number):
        yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


def _events(request, reply, number):
    start = whole(request, Reply(), number) | {"stop_reason": None, "usage": _usage(1)}
    yield {"type": "message_start", "message": start}
    for index, block in enumerate(_blocks(reply)):
        if block["type"] == "text":
            empty, delta = block | {"text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            empty = block | {"input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use" if reply.calls else "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": OUTPUT_TOKENS},
    }
    yield {"type": "message_stop"}


def error(status, message):
    kind = ERRORS.get(status, "api_error")
    return {}, {"type": "error", "error": {"type": kind, "message": message}}


def limit(resets_at):
    """The five-hour limit of a subscription. Claude Code looks at these headers only when logged in with one."""
    headers = {
        "anthropic-ratelimit-unified-status": "rejected",
        "anthropic-ratelimit-unified-reset": str(resets_at),
        "anthropic-ratelimit-unified-representative-claim": "five_hour",
        "anthropic-ratelimit-unified-5h-status": "rejected",
        "anthropic-ratelimit-unified-5h-reset": str(resets_at),
        "anthropic-ratelimit-unified-5h-utilization": "1.0",
        "anthropic-ratelimit-unified-overage-status": "rejected",
    }
    return headers, error(429, "This request would exceed your account's rate limit.")[1]
