"""The HTTP side: reads a request, plays the step that is due, and writes down what it saw."""

import json
import os
import select
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from . import anthropic, gemini, openai_chat, openai_responses, script, tools
from .conversation import Reply

APIS = {
    "anthropic": anthropic,
    "responses": openai_responses,
    "chat": openai_chat,
    "gemini": gemini,
}
KEY_PREFIX = "key-"


def key_of(agent: str, case: str) -> str:
    """The API key of an agent in a case. By it the server knows who is asking."""
    return f"{KEY_PREFIX}{agent}-{case}"


class ModelServer(ThreadingHTTPServer):
    """Answers on a free port of 127.0.0.1, and writes a JSON line for each request to `log`."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, log):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.scripts = script.Scripts()
        self.ending = threading.Event()
        self._log = open(log, "a+", encoding="utf-8")
        self._lock = threading.Lock()
        self._number = 0

    def start(self):
        threading.Thread(target=self.serve_forever, name="model server", daemon=True).start()
        return self

    def stop(self):
        self.ending.set()
        self.shutdown()
        self.server_close()

    def next_number(self):
        with self._lock:
            self._number += 1
            return self._number

    def write_down(self, seen):
        with self._lock:
            self._log.seek(0, os.SEEK_END)
            self._log.write(json.dumps(seen) + "\n")
            self._log.flush()

    def seen(self):
        """All that was written down, the oldest first."""
        with self._lock:
            self._log.seek(0)
            return [json.loads(line) for line in self._log]

    def handle_error(self, request, client_address):
        """A program that hangs up is nothing to report: most do when they end."""


def shaped_like(schema: dict):
    """The least that follows a JSON schema."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type", "").lower():
        case "object":
            return {name: shaped_like(inner) for name, inner in schema.get("properties", {}).items()}
        case "array":
            return []
        case "integer" | "number":
            return 1
        case "boolean":
            return False
        case _:
            return "A title"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.answer_request()

    do_HEAD = do_POST = do_GET

    def answer_request(self):
        path = self.path.split("?")[0]
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        key = self.api_key()
        agent, _, case = key.removeprefix(KEY_PREFIX).partition("-")
        seen = {"time": time.time(), "agent": agent, "case": case, "method": self.command, "path": path, "key": key}
        name = next((name for name, api in APIS.items() if api.takes(self.command, path)), None)
        if name is None:
            self.server.write_down(seen | {"api": None})
            return self.answer_json(404, {"error": {"type": "not_found_error", "message": f"no {path} here"}})
        api = APIS[name]
        if not key.startswith(KEY_PREFIX):
            self.server.write_down(seen | {"api": name})
            headers, body = api.error(401, "this key is not known")
            return self.answer_json(401, body, headers)
        request = api.read(path, json.loads(body))
        seen |= {
            "api": name,
            "model": request.model,
            "effort": request.effort,
            "tools": [f"{tool.group}{tool.name}" for tool in request.tools],
            "turns": [{"role": turn.role, "text": turn.text} for turn in request.turns],
        }
        if os.environ.get("MODEL_SERVER_BODIES"):
            seen |= {"body": json.loads(body), "headers": dict(self.headers)}
        # Titles, and how hard a prompt is, are asked for without tools, and are not part of the script.
        if not request.tools:
            self.server.write_down(seen | {"step": None})
            text = json.dumps(shaped_like(request.schema)) if request.schema else "A title"
            return self.answer(api, request, Reply(text=text))
        try:
            step = self.server.scripts.next_step(key, request)
            self.server.write_down(seen | {"step": step})
            self.play(api, agent, request, step)
        except script.BadScript as error:
            self.server.write_down(seen | {"step": None, "error": str(error)})
            self.answer_json(400, {"error": {"type": "invalid_request_error", "message": str(error)}})

    def api_key(self):
        bearer = self.headers.get("authorization", "").removeprefix("Bearer ")
        return self.headers.get("x-api-key") or self.headers.get("x-goog-api-key") or bearer

    def play(self, api, agent, request, step):
        if "hang" in step:
            if not self.wait(step["hang"]):
                return
            # Nothing was said, so the next step is played by the same request.
            key = self.api_key()
            step = self.server.scripts.next_step(key, request)
            return self.play(api, agent, request, step)
        if "error" in step:
            status = step["error"]
            headers, body = api.error(status, step.get("message", f"as scripted: {status}"))
            return self.answer_json(status, body, headers | step.get("headers", {}))
        if "limit" in step:
            headers, body = api.limit(step["limit"])
            return self.answer_json(429, body, headers)
        reply = Reply(text=step.get("text", ""))
        if "tool" in step:
            filled = script.filled(step, request)
            reply.calls.append(tools.call(agent, filled, request, self.server.next_number()))
        self.answer(api, request, reply, cut=step.get("cut", False))

    def wait(self, seconds):
        """Says whether the program is still there after so long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.server.ending.wait(0.1):
                return False
            readable, _, _ = select.select([self.connection], [], [], 0)
            if readable:
                return False
        return True

    def answer(self, api, request, reply, cut=False):
        number = self.server.next_number()
        if not request.stream and not cut:
            return self.answer_json(200, api.whole(request, reply, number))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        events = list(api.stream(request, reply, number))
        # A stream that is cut has no end, and not the last chunk that HTTP demands.
        for event in events[: max(1, (len(events) - 1) // 2)] if cut else events:
            data = event.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
        if not cut:
            self.wfile.write(b"0\r\n\r\n")

    def answer_json(self, status, body, headers=None):
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"content-type": "application/json"} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        if self.command != "HEAD":
            self.wfile.write(data)
