"""A whole run over poisoned data, tool output and model answers: no score and no structure changes, and the report runs nothing.

The poison (tests/fixtures/poisoned/system.py): instructions to the judge, template marks, closing tags, scripts, a megabyte, NUL,
direction marks, halves of surrogate pairs. The report is opened in headless Chromium beside a server that notes every request.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from optimas_core.artifacts import Lease, read_table
from optimas_core.controller import Controller
from optimas_core.errors import EnvironmentNotReady
from optimas_core.launchers.in_process import InProcessLauncher
from optimas_core.models.embedded import embedded_path
from optimas_core.reporting import write_report_of
from optimas_core.rollouts import Task
from optimas_core.stages import StageContext, ValidateRequest, load_project, open_run, read_decision, validate_accept
from optimas_core.stages._validate_accept import _VALIDATION_REPEAT

FIXTURE = Path(__file__).parents[2] / "fixtures" / "poisoned"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@dataclass(frozen=True)
class Poisoned:
    """The finished run, the module its system came from, its report, and the paths that anyone asked the server for."""

    context: StageContext
    module: Any
    report: dict[str, Any]
    html: bytes
    asked: list[str]
    url: str


@pytest.fixture(scope="module")
def asked() -> Iterator[tuple[str, list[str]]]:
    """(address, paths asked for) of a server that answers everything."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", paths
    server.shutdown()
    server.server_close()
    thread.join()


def project_in(directory: Path, *, clean: bool = False) -> StageContext:
    """The poisoned project, or its clean twin, opened in `directory`."""
    shutil.copytree(FIXTURE, directory, ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.MonkeyPatch.context() as patch:
        if clean:
            patch.setenv("POISON_OFF", "1")
        spec = importlib.util.spec_from_file_location("poison_data", directory / "system.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        rows = "".join(json.dumps(row) + "\n" for row in module.examples())
    (directory / "examples.jsonl").write_text(rows, encoding="utf-8")
    return open_run(load_project(directory / "run.yaml"))


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory, asked: tuple[str, list[str]]) -> Iterator[Poisoned]:
    try:
        embedded_path("all-minilm-l6-v2")
    except EnvironmentNotReady as error:
        pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POISON_URL", asked[0])
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(sys, "dont_write_bytecode", True)
        sys.modules.pop("system", None)
        context = project_in(tmp_path_factory.mktemp("poisoned") / "project")
        module = sys.modules.pop("system")
        lease, launcher = Lease(context.run), InProcessLauncher(context)
        lease.acquire()
        try:
            Controller(context, launcher, lease).run()
        finally:
            launcher.close()
            lease.release()
            context.budget.flush()
        report, files, _ = write_report_of(context.run)
        yield Poisoned(context, module, report, files["report.html"], asked[1], asked[0])


def tables(found: Poisoned, kind: str, file: str) -> list[dict[str, Any]]:
    folder = Path(found.context.run.uri.removeprefix("file://")) / kind
    rows = []
    for path in sorted(folder.glob(f"*/{file}")):
        rows += [{**row, "artifact": path.parent.name} for row in read_table(path.stem, path.read_bytes(), file=str(path))]
    return rows


def test_the_run_goes_its_way(poisoned: Poisoned) -> None:
    report = poisoned.report
    assert report["verdict"]["kind"] == "improved" and len(report["iterations"]) == 2
    assert all(status == "ok" for row in report["items"]["rows"] for status in row["statuses"] if status != "not_run")
    assert report["sealed_test"] == {"items": 20, "missing": 0, "max_missing": 0.2}


def test_every_score_is_what_the_metric_says_of_the_output(poisoned: Poisoned) -> None:
    context, score = poisoned.context, poisoned.module.score
    examples = {item.id: item.fields for part in (context.split.train, context.split.validation, context.split.test) for item in part}
    rows = [row for row in tables(poisoned, "preferences", "rollouts.parquet") if row["component"] == "answerer"]
    assert len(rows) > 40 and {row["status"] for row in rows} == {"ok"}
    assert [row["reward"] for row in rows] == [score(examples[row["example_id"]], json.loads(row["output_json"])) for row in rows]
    assert len({row["reward"] for row in rows}) == 3, "all three scores occur, and no other"

    accepted = 0
    for state in context.run.states():
        result = state.data["record"].get("result")
        if not result or not result["validation"]:
            continue
        artifact = context.required("validations", result["validation"])
        table = read_table("validations", artifact.read("validations.parquet"), file="validations.parquet")
        arms = {"incumbent": state.data["record"]["plan"]["configuration"], "challenger": result["challenger"]}
        for arm, name in arms.items():
            named = {row["example_id"]: row["reward"] for row in table if row["arm"] == arm}
            tasks = [
                Task(item, context.configuration(name), repeat=_VALIDATION_REPEAT + accepted) for item in context.examples(list(named))
            ]
            outputs = asyncio.run(context.engine.run(tasks, stage="check", iteration=0))
            assert [score(examples[item.example_id], item.trajectory.fields) for item in outputs] == list(named.values())  # type: ignore[union-attr]
        accepted += result["verdict"] == "accept"


def test_the_clean_twin_gets_the_same_scores_and_the_same_verdict(
    poisoned: Poisoned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy decoding, so that nothing is drawn: the system without any poison scores every item alike."""

    def judged(context: StageContext) -> tuple[dict[str, Any], list[tuple[str, str, float]]]:
        start = context.system.configuration.replace("answerer", {"temperature": 0.0})
        better = start.replace("answerer", {"prompt": {**start.of("answerer")["prompt"], "format": "completion"}}).replace(
            "lookup", {"k": 2}
        )
        names = [context.run.put_configuration(item.to_json()) for item in (start, better)]
        name = asyncio.run(validate_accept(context, ValidateRequest(9, *names, 0.05, 0)))
        table = context.required("validations", name).read("validations.parquet")
        rows = read_table("validations", table, file="validations.parquet")
        return read_decision(context, name), [(row["example_id"], row["arm"], row["reward"]) for row in rows]

    sys.modules.pop("system", None)
    monkeypatch.setenv("POISON_OFF", "1")
    twin = project_in(tmp_path / "clean", clean=True)
    clean = judged(twin)
    monkeypatch.delenv("POISON_OFF")
    assert judged(poisoned.context) == clean and clean[0]["kind"] == "accept"


def test_no_text_adds_a_turn_or_a_message(poisoned: Poisoned) -> None:
    requests = [item for item in poisoned.module.REQUESTS if item.messages]
    for request in requests:
        roles = [message.role for message in request.messages]
        if request.messages[-1].content.startswith("You improve the instruction"):
            assert roles == ["user"]
            continue
        turns = roles[1:] if roles[0] == "system" else roles
        assert turns[-1] == "user" and turns[:-1] == ["user", "assistant"] * (len(turns) // 2) and len(turns) <= 7
    assert any("<|im_start|>" in message.content for request in requests for message in request.messages)
    assert any(len(message.content) > 10**6 for request in requests for message in request.messages)


def test_every_file_of_the_run_is_readable_and_names_only_examples_of_the_data(poisoned: Poisoned) -> None:
    run = Path(poisoned.context.run.uri.removeprefix("file://"))
    for path in run.rglob("*.json"):
        json.loads(path.read_bytes())
    ids = {f"e{number:02d}" for number in range(1, 81)}
    found = [*tables(poisoned, "preferences", "rollouts.parquet"), *tables(poisoned, "validations", "validations.parquet")]
    assert {row["example_id"] for row in found} <= ids
    assert any(len(row.get("output_json") or "") > 10**6 for row in found) and any(
        "\\ud800" in (row.get("output_json") or "") for row in found
    )


# In the browser


def dump_dom(page: Path, profile: Path) -> str:
    """The document as Chromium has it after everything it would run or load."""
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={profile}", "--virtual-time-budget=3000", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True, errors="replace").stdout


class Elements(HTMLParser):
    """Names of the elements and attributes of a document, and its text."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.title = ""
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        if self.lasttag == "title" and not self.title:
            self.title = data


@in_chromium
def test_in_chromium_no_script_runs_and_no_request_leaves(poisoned: Poisoned, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_bytes(poisoned.html)
    shown = poisoned.html.decode()
    for text in ("&lt;script&gt;", "/fetch", "/img", "/refresh", "/import"):
        assert text in shown, "the page shows the poison, as text"
    assert "\x00" not in shown and "\u202e" not in shown and len(shown) < 1_000_000
    before = len(poisoned.asked)
    document = Elements(dump_dom(page, tmp_path / "profile"))
    assert poisoned.asked[before:] == []
    assert document.title.startswith("poisoned: Improved")
    assert document.tags.isdisjoint({"script", "img", "iframe", "link", "object", "embed", "form", "base"})
    assert not [name for name in document.attributes if name.startswith("on") or name in ("ping", "background")]


@in_chromium
def test_the_same_poison_unescaped_does_run_and_ask(poisoned: Poisoned, tmp_path: Path) -> None:
    """The attack works: a page that shows it raw is owned and asks the server."""
    page = tmp_path / "raw.html"
    attack = "".join(text for text in poisoned.module.POISON[:-1] if "refresh" not in text and "\ud800" not in text)
    page.write_text(f"<!DOCTYPE html><title>raw</title><body>{attack}</body>", encoding="utf-8")
    before = len(poisoned.asked)
    document = Elements(dump_dom(page, tmp_path / "profile"))
    assert document.title == "owned" and {"/fetch", "/img"} & set(poisoned.asked[before:])
