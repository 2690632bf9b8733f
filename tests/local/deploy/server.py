"""A small server of Kubeflow Pipelines' v2beta1 API over loopback HTTP, with what was measured on a real 2.17.0 backend:

a run has no state at first; names are not unique; a `run_id` of the client's is honoured, but a second create of it answers 500 after it
started a Workflow that no list shows; terminate gives CANCELING, then FAILED, and 400 on a run that has ended; there are no outputs,
and a run that failed has no error: the reason stands in the log of a pod, below v1alpha1 only;
a listed run has 42 kB; a second upload of a name is 409; a five-field cron is accepted; deleting a recurring run takes the Workflow of
its running run; a restarted server cuts connections for some seconds.
"""

from __future__ import annotations

import email
import email.policy
import json
import re
import threading
import time
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlsplit

FILLER = "x" * 42_000
ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class KfpServer:
    """What a test sets and reads. Used from many threads."""

    def __init__(self) -> None:
        self.tag_name = "2.17.0"
        self.multi_user = False
        self.token = ""  # what Authorization must carry
        self.denied: tuple[str, ...] = ()  # resources that answer 403: "experiments", "runs", …
        self.down_until = 0.0  # connections are cut until this time.monotonic()
        self.next_statuses: list[int] = []  # answered instead of doing anything
        self.lost_answers = 0  # so many creations are carried out and then cut
        self.ending_looks = 2  # looks at a CANCELING run before it is FAILED
        self.create_s = 0.0  # how long a creation takes, to let others look meanwhile
        self.nodes: dict[str, dict[str, Any]] = {}  # Argo nodes of a run, or of every run: "*"
        self.logs: dict[str, bytes] = {}  # of pods, by name
        self.on_terminate: Callable[[dict[str, Any]], None] = lambda run: None
        self.on_end: Callable[[dict[str, Any]], None] = lambda run: None
        self.experiments: dict[str, dict[str, Any]] = {}
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.recurring: dict[str, dict[str, Any]] = {}
        self.workflows: list[str] = []  # names of Workflows, orphans too
        self.requests: list[tuple[str, str]] = []
        self.answered_bytes = self.largest_answer = 0
        self.lock = threading.RLock()
        self._looks: dict[str, int] = {}
        self._made = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet

            def setup(self) -> None:
                super().setup()
                self.cut = time.monotonic() < server.down_until

            def handle(self) -> None:
                if not self.cut:
                    super().handle()

            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if time.monotonic() < server.down_until:  # a connection that was kept open
                    self.close_connection = True
                    return
                kind = "application/json"
                try:
                    answer, status = server.answer(self.command, self.path, dict(self.headers.items()), body), 200
                    kind = "text/plain" if isinstance(answer, bytes) else kind
                except Refused as error:
                    answer, status = {"error": str(error), "code": 3, "message": str(error), "details": []}, error.status
                except ConnectionAbortedError:
                    self.close_connection = True
                    return
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                server.answered_bytes += len(data)
                server.largest_answer = max(server.largest_answer, len(data))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_DELETE = do_GET

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    # What a cluster does by itself

    def move(self, run_id: str, state: str, error: str = "") -> None:
        with self.lock:
            run = self.runs[run_id]
            run["state"] = state
            run["state_history"].append({"state": state, **({"error": {"code": 13, "message": error}} if error else {})})
            if error:
                run["error"] = {"code": 13, "message": error}

    def fire(self, recurring_id: str) -> str:
        """One run of a recurring run, as the schedule controller starts it."""
        body = {"display_name": "Run of a schedule", "experiment_id": self.recurring[recurring_id]["experiment_id"]}
        return str(self._add_run(body | {"recurring_run_id": recurring_id})["run_id"])

    def named(self, name: str) -> list[dict[str, Any]]:
        return [run for run in self.runs.values() if run["display_name"] == name]

    # Requests

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> dict[str, Any] | bytes:
        parts = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.requests.append((method, parts.path))
        if self.next_statuses:
            raise Refused(self.next_statuses.pop(0), f"as told; {headers.get('Authorization')} {headers.get('Cookie')}")
        if self.token and headers.get("Authorization") != f"Bearer {self.token}":
            raise Refused(401, f"Request header error: {headers.get('Authorization')} is not known")
        path = parts.path
        if path in ("/apis/v1beta1/healthz", "/apis/v2beta1/healthz"):
            return {"commit_sha": "0", "tag_name": self.tag_name, "multi_user": self.multi_user}
        old = re.fullmatch(r"/apis/v1beta1/runs/([\w-]+)", path)
        if old:
            manifest = {"status": {"nodes": self.nodes.get(old[1], self.nodes.get("*", {}))}}
            return {"run": {"id": old[1]}, "pipeline_runtime": {"workflow_manifest": json.dumps(manifest)}}
        log = re.fullmatch(r"/apis/v1alpha1/runs/[\w-]+/nodes/([\w-]+)/log", path)
        if log:
            if log[1] not in self.logs:
                raise Refused(500, "failed to retrieve the pod log")
            return self.logs[log[1]]
        found = re.fullmatch(r"/apis/v2beta1/(\w+)(?:/([\w-]+))?(?:/(\w+))?(?::(\w+))?", path)
        if not found:
            raise Refused(404, "Not Found")
        kind, name, below, verb = found.groups()
        if kind in self.denied and (method == "POST" or kind == "runs"):
            raise Refused(403, "User 'someone' is not authorized with reason: PERMISSION_DENIED")
        if kind == "pipelines" and name == "upload_version":
            return self._upload(query, headers, body)
        value = json.loads(body) if body else {}
        with self.lock:
            if kind == "pipelines" and below == "versions":
                mine = [item for item in self.versions.values() if item["pipeline_id"] == name]
                return self._page(mine, query, "pipeline_versions", "display_name")
            match kind:
                case "experiments":
                    return self._named(self.experiments, method, query, value, "experiment_id", "experiments")
                case "pipelines":
                    return self._named(self.pipelines, method, query, value, "pipeline_id", "pipelines")
                case "recurringruns":
                    return self._recurring(method, name, verb, query, value)
        return self._runs(method, name, verb, query, value)

    def _named(
        self, there: dict[str, dict[str, Any]], method: str, query: dict[str, str], value: dict[str, Any], key: str, listed: str
    ) -> dict[str, Any]:
        if method == "GET":
            return self._page(list(there.values()), query, listed, "display_name")
        if self.multi_user and not value.get("namespace"):
            raise Refused(400, "Namespace is empty")
        if any(item["display_name"] == value["display_name"] for item in there.values()):
            raise Refused(409, f"The name {value['display_name']} already exists")
        made = {key: str(uuid.uuid4()), "display_name": value["display_name"], "name": value["display_name"]}
        there[made[key]] = made
        return self._told(made)

    def _upload(self, query: dict[str, str], headers: dict[str, str], body: bytes) -> dict[str, Any]:
        if "versions" in self.denied:  # a missing right is a 400 here
            raise Refused(400, "Failed to create a pipeline version")
        kind = next(value for key, value in headers.items() if key.lower() == "content-type")
        message = email.message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body, policy=email.policy.HTTP)
        parts: Any = message.iter_parts()  # type: ignore[attr-defined]
        (part,) = [item for item in parts if item.get_param("name", header="content-disposition") == "uploadfile"]
        with self.lock:
            if any((item["pipeline_id"], item["name"]) == (query["pipelineid"], query["name"]) for item in self.versions.values()):
                raise Refused(409, "Failed to create a pipeline version")
            made = {"pipeline_version_id": str(uuid.uuid4()), "pipeline_id": query["pipelineid"]}
            made |= {"name": query["name"], "display_name": query["name"], "yaml": part.get_payload(decode=True).decode()}
            self.versions[made["pipeline_version_id"]] = made
        return self._told(made)

    def _runs(self, method: str, run_id: str | None, verb: str | None, query: dict[str, str], value: dict[str, Any]) -> dict[str, Any]:
        if method == "POST" and run_id is None:
            return self._told(self._create(value))
        with self.lock:
            if run_id is None:
                mine = [run for run in self.runs.values() if run["experiment_id"] == query.get("experiment_id", run["experiment_id"])]
                return self._page([self._seen(run) for run in mine], query, "runs", "display_name")
            run = self.runs.get(run_id)
            if run is None:
                raise Refused(404, f"Run {run_id} not found")
            if verb == "terminate":
                if run.get("state", "PENDING") in (*ENDED, "CANCELING"):
                    raise Refused(400, f"Failed to terminate a run {run_id}. Row not found")
                run["state"] = "CANCELING"
                self.on_terminate(run)
                return {}
            return self._seen(run)

    def _create(self, value: dict[str, Any]) -> dict[str, Any]:
        reference = value["pipeline_version_reference"]
        if reference["pipeline_version_id"] not in self.versions:
            raise Refused(400, "Failed to fetch a template")
        time.sleep(self.create_s)
        if value.get("run_id") in self.runs:
            self.workflows.append(value["display_name"])  # nobody will ever see it
            raise Refused(500, "Failed to create a run: duplicate entry")
        return self._add_run(value)

    def _add_run(self, value: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            run = {"run_id": str(uuid.uuid4()), **value, "created_at": self._now(), "finished_at": "1970-01-01T00:00:00Z"}
            run |= {"state_history": [], "pipeline_spec": {"filler": FILLER}}
            self.runs[run["run_id"]] = run
            self.workflows.append(run["display_name"])
            return dict(run)

    def _seen(self, run: dict[str, Any]) -> dict[str, Any]:
        """A run as it is now; each look lets it get on."""
        if run.get("state") == "CANCELING":
            looks = self._looks[run["run_id"]] = self._looks.get(run["run_id"], 0) + 1
            if looks == 1:
                run["state_history"].append({"state": "CANCELING"})
            if looks > self.ending_looks:
                self.move(run["run_id"], "FAILED", "workflow shutdown with strategy: Terminate")
                self.on_end(run)
        return run

    def _recurring(
        self, method: str, recurring_id: str | None, verb: str | None, query: dict[str, str], value: dict[str, Any]
    ) -> dict[str, Any]:
        if recurring_id is None and method == "GET":
            mine = [item for item in self.recurring.values() if item["experiment_id"] == query.get("experiment_id")]
            return self._page(mine, query, "recurringRuns", "display_name")
        if recurring_id is None:
            fields = value["trigger"]["cron_schedule"]["cron"].split()
            if len(fields) not in (5, 6):
                raise Refused(400, "Schedule cron is not a supported format")
            made = {"recurring_run_id": str(uuid.uuid4()), **value, "created_at": self._now(), "status": "ENABLED"}
            self.recurring[made["recurring_run_id"]] = made
            return self._told(made)
        if recurring_id not in self.recurring:
            raise Refused(404, "Recurring run not found")
        if verb in ("enable", "disable"):
            self.recurring[recurring_id]["status"] = f"{verb.upper()}D"
            return {}
        if method == "DELETE":
            del self.recurring[recurring_id]
            for run in self.runs.values():
                if run.get("recurring_run_id") == recurring_id and run.get("state") not in ENDED:
                    run["lost"] = True  # its Workflow is gone: it says RUNNING for ever
            return {}
        return self.recurring[recurring_id]

    def _page(self, items: list[dict[str, Any]], query: dict[str, str], key: str, name: str) -> dict[str, Any]:
        for predicate in json.loads(unquote_plus(query.get("filter", "{}"))).get("predicates", []):
            field = name if predicate["key"] == "name" else predicate["key"]
            wanted = predicate.get("stringValue", predicate.get("string_value"))
            operation = {1: "EQUALS", 9: "IS_SUBSTRING"}.get(predicate["operation"], predicate["operation"])  # the SDK sends numbers
            if operation == "EQUALS":  # MySQL compares without regard to case
                items = [item for item in items if str(item.get(field)).lower() == wanted.lower()]
            elif operation == "IS_SUBSTRING":
                like = re.compile(re.escape(wanted).replace("_", "."), re.IGNORECASE)  # LIKE: _ is any character
                items = [item for item in items if like.search(str(item.get(field)))]
            else:
                raise Refused(400, "invalid predicate operation")
        start, size = int(query.get("page_token") or 0), min(200, int(query.get("page_size") or 20))
        page = items[start : start + size]
        following = {"next_page_token": str(start + size)} if start + size < len(items) else {}
        return ({key: page} if page else {}) | following  # no key at all where nothing matches

    def _told(self, made: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            if self.lost_answers:
                self.lost_answers -= 1
                raise ConnectionAbortedError
        return made

    def _now(self) -> str:
        self._made += 1
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_800_000_000 + self._made))
