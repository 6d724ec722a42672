"""Gemini's generateContent and streamGenerateContent, as Gemini CLI speaks them."""

import json
import re

from .conversation import CACHED_TOKENS, INPUT_TOKENS, OUTPUT_TOKENS, Request, Reply, Tool, Turn

PATH = re.compile(r"/models/(?P<model>[^:]+):(?P<method>generateContent|streamGenerateContent)")
STATES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 429: "RESOURCE_EXHAUSTED"}


def takes(method, path):
    return method == "POST" and bool(PATH.search(path))


def read(path, body):
    called = PATH.search(path)
    config = body.get("generationConfig", {})
    return Request(
        model=called["model"],
        turns=[_turn(content, part) for content in body["contents"] for part in content["parts"]],
        tools=[Tool(one["name"]) for tool in body.get("tools") or [] for one in tool.get("functionDeclarations", [])],
        effort=config.get("thinkingConfig", {}).get("thinkingLevel"),
        stream=called["method"] == "streamGenerateContent",
        schema=config.get("responseJsonSchema") or config.get("responseSchema"),
    )


def _turn(content, part):
    if "functionResponse" in part:
        return Turn("tool", json.dumps(part["functionResponse"]["response"]))
    if "functionCall" in part:
        return Turn("assistant", json.dumps(part["functionCall"]))
    return Turn("assistant" if content.get("role") == "model" else "user", part.get("text", ""))


def whole(request: Request, reply: Reply, number):
    parts = [{"text": reply.text}] if reply.text else []
    parts += [{"functionCall": {"id": call.id, "name": call.tool.name, "args": call.arguments}} for call in reply.calls]
    return {
        "candidates": [{"index": 0, "content": {"role": "model", "parts": parts}, "finishReason": "STOP"}],
        "modelVersion": request.model,
        "responseId": f"response-{number}",
        "usageMetadata": {
            "promptTokenCount": INPUT_TOKENS,
            "cachedContentTokenCount": CACHED_TOKENS,
            "candidatesTokenCount": OUTPUT_TOKENS,
            "totalTokenCount": INPUT_TOKENS + OUTPUT_TOKENS,
        },
    }


def stream(request: Request, reply: Reply, number):
    said = whole(request, reply, number)
    end = whole(request, Reply(), number)
    del said["candidates"][0]["finishReason"], said["usageMetadata"]
    for chunk in (said, end):
        yield f"data: {json.dumps(chunk)}\r\n\r\n"


def error(status, message):
    details = []
    if status == 401:
        reason = {"reason": "API_KEY_INVALID", "domain": "googleapis.com"}
        details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo"} | reason]
    state = STATES.get(status, "UNAVAILABLE")
    return {}, {"error": {"code": status, "message": message, "status": state, "details": details}}


def limit(resets_at):
    """The quota of a day, which has no time."""
    violation = {
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
        "quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
        "quotaValue": "50",
    }
    _, body = error(429, "You exceeded your current quota, please check your plan and billing details.")
    body["error"]["details"] = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]},
    ]
    return {}, body
