"""Holds the HTTP interface of a running dashboard against other people's readers of what it answers with:

    check.py PATH-TO-MOADIM-MCP

in the home that MOADIM_HOME names, which has an agent `shell`.
"""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from prometheus_client.parser import text_string_to_metric_families

PATIENCE_SECS = 60
GOLDEN = Path(__file__).parent / "openapi.json"


class Dashboard:
    def __init__(self, program):
        command = [program, "dashboard", "--no-open"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        url = self.process.stdout.readline().strip()
        self.address, self.token = url.split("/#token=")

    def end(self):
        self.process.terminate()
        self.process.wait(timeout=PATIENCE_SECS)

    def send(self, method, path, body=None):
        """Returns the status and the text of an answer."""
        headers = {"Authorization": f"Bearer {self.token}"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()

    def call(self, tool, arguments):
        status, text = self.send("POST", f"/api/tools/{tool}", arguments)
        assert status == 200, (tool, status, text)
        return json.loads(text)


def check_description(dashboard):
    """The description is valid by OpenAPI's own meta-schema and rules, and is the one in the repository."""
    description = json.loads(dashboard.send("GET", "/api/openapi.json")[1])
    errors = list(OpenAPIV31SpecValidator(description).iter_errors())
    assert not errors, errors
    assert description == json.loads(GOLDEN.read_text()), "schemas/openapi.json is not what is served"
    for name, schema in description["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
    return description


def run_to_the_end(dashboard, title, prompt):
    created = dashboard.call("create_routine", {"title": title, "agent": "shell", "prompt": prompt})
    slug = created["routine"]["slug"]
    run = dashboard.call("trigger_routine", {"routine": slug, "wait": True})
    assert run["finished"], run
    return slug, run["run"]["id"]


def check_answers(dashboard, description, run, slug):
    """What is answered fits the schemas that describe it, refusals too."""
    schemas = description["components"]["schemas"]

    def schema_of(answer):
        if "$ref" in answer:
            answer = description["components"]["responses"][answer["$ref"].rsplit("/", 1)[1]]
        kind = answer["content"].get("application/json")
        if kind is None or "$ref" not in kind["schema"]:
            return kind and kind["schema"]
        return schemas[kind["schema"]["$ref"].rsplit("/", 1)[1]]

    count = 0
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            if path == "/api/events":
                continue
            # As it is, of what is not there, and with an argument that is unknown.
            for routine, named_run, unknown in [(slug, run, False), ("missing", "missing-7", False), (slug, run, True)]:
                real = path.replace("{routine}", routine).replace("{run}", named_run)
                body = None
                if method == "post":
                    body = {"unknown": 1} if unknown or path.startswith("/api/tools/") else {}
                    if path.endswith("/trigger") and routine == slug and not unknown:
                        body = {"wait": True}
                elif unknown:
                    real += "?unknown=1"
                status, text = dashboard.send(method.upper(), real, body)
                answer = operation["responses"].get(str(status))
                assert answer is not None, f"{method} {real}: {status} is not described: {text}"
                schema = schema_of(answer)
                if schema is not None:
                    Draft202012Validator(schema).validate(json.loads(text))
                count += 1
    return count


def check_metrics(dashboard, slug, ended):
    """Prometheus' own parser reads the metrics, and finds what ran."""
    status, text = dashboard.send("GET", "/metrics")
    assert status == 200, text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for family in families.values():
        assert family.documentation and family.type != "unknown", family
        assert all(sample.name.startswith("moadim_") for sample in family.samples), family
    runs = {
        (sample.labels["routine"], sample.labels["status"]): sample.value for sample in families["moadim_runs"].samples
    }
    assert families["moadim_runs"].type == "counter"
    assert runs[(slug, "succeeded")] == ended, runs
    durations = families["moadim_run_duration_seconds"]
    assert durations.type == "summary"
    names = {sample.name for sample in durations.samples}
    assert names == {"moadim_run_duration_seconds_sum", "moadim_run_duration_seconds_count"}, names
    return len(families)


def check_events(dashboard, title):
    """A reader of server-sent events that knows nothing of ours hears of a routine that is created."""
    request = urllib.request.Request(
        dashboard.address + "/api/events", headers={"Authorization": f"Bearer {dashboard.token}"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_SECS) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        stream.readline()
        dashboard.call("create_routine", {"title": title, "agent": "shell", "prompt": "true"})
        until = time.monotonic() + PATIENCE_SECS
        event = None
        while time.monotonic() < until:
            line = stream.readline().decode().rstrip("\n")
            if line.startswith("event: "):
                event = line.removeprefix("event: ")
            elif line.startswith("data: ") and event == "changed":
                if f"moadim://routines/{title.lower()}" in json.loads(line.removeprefix("data: "))["topics"]:
                    return
    raise AssertionError("no event named the new routine")


def check_generated(dashboard):
    """Whatever fits the description or breaks it is answered as described, and by no failure of ours."""
    excluded = [
        # A slug, a run's id or a title has rules that a schema for models does not spell out.
        "positive_data_acceptance",
        # A null stands for an absent argument.
        "negative_data_rejection",
    ]
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"{dashboard.address}/api/openapi.json"]
    command += ["--header", f"Authorization: Bearer {dashboard.token}", "--exclude-path", "/api/events"]
    command += ["--exclude-checks", ",".join(excluded), "--generation-deterministic", "--max-examples", "20"]
    command += ["--request-timeout", str(PATIENCE_SECS), "--no-color"]
    checked = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert checked.returncode == 0, checked.stdout
    counted = [line for line in checked.stdout.splitlines() if " generated" in line]
    return counted[-1].split()[0]


def main():
    dashboard = Dashboard(sys.argv[1])
    try:
        description = check_description(dashboard)
        slug, run = run_to_the_end(dashboard, 'Quoted "text" \\ and more', "echo done")
        answers = check_answers(dashboard, description, run, slug)
        families = check_metrics(dashboard, slug, 2)
        check_events(dashboard, "Announced")
        generated = check_generated(dashboard)
        assert dashboard.call("list_runs", {})["total"] >= 2
        print(f"{len(description['paths'])} paths, {answers} answers and {generated} generated ones, {families} metrics")
    finally:
        dashboard.end()


if __name__ == "__main__":
    main()
