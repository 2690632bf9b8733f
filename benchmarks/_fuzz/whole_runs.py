"""A finished run of which one file is a stranger's: report, status, diff, gc and resumption must stand it.

An input is the file's key, a line end and its bytes. A stranger can add up: check sums, manifests and digests of what is changed are made
right again, so that the readers behind those checks are reached too.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import random
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from _fuzz.memory_store import MemoryStore
from _fuzz.mutations import broken_bytes, broken_json
from _fuzz.parquet import broken_table
from optimas_core.artifacts import Lease, RunWorkspace, Workspace, collect
from optimas_core.canonical import canonical_json, digest, digest_bytes
from optimas_core.controller import RunState
from optimas_core.rollouts import Budget
from optimas_core.spec import BudgetSettings

_MANIFEST = re.compile(r"runs/[^/]+/[a-z-]+/[0-9a-f]{8,64}/manifest\.json")
_LOGGED = re.compile(r"runs/[^/]+/(?:state|ledger)/\d+\.json")
_CONFIGURATION = re.compile(r"runs/[^/]+/configurations/([0-9a-f]{32})\.json")


def packed(files: Mapping[str, bytes]) -> bytes:
    """As one zip of fixed times."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED, 9)
    return sink.getvalue()


@functools.lru_cache(maxsize=4)
def base_run(place: Path) -> Mapping[str, bytes]:
    """Key -> bytes of the run in `place`, a zip that `fuzz.py --corpus` writes. Report pages and call records are left out of it."""
    with zipfile.ZipFile(place) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def resealed(value: Any) -> Any:
    """With its check sum made right, where it has one."""
    if isinstance(value, dict) and "check" in value:
        rest = {key: item for key, item in value.items() if key != "check"}
        inner = value["state"] if "state" in value else value.get("record", rest)
        if "format" in value:  # a manifest
            return rest | {"check": digest_bytes(canonical_json(rest).encode())}
        return rest | {"check": digest(inner)}
    return value


def without_place(files: Mapping[str, bytes], place: Path) -> dict[str, bytes]:
    """`files` that do not say in which directory they were made."""
    changed = {key: data.replace(str(place).encode(), b"/place") for key, data in files.items()}
    for key, data in files.items():
        if data != changed[key]:
            changed = with_file(changed, key.encode() + b"\n" + changed[key])
    return changed


def with_file(files: Mapping[str, bytes], data: bytes) -> dict[str, bytes]:
    """`files` with the input's file in place, its manifest and every name of its digest made right."""
    raw_key, _, content = data.partition(b"\n")
    key = raw_key.decode("utf-8", "replace")
    changed = dict(files)
    found = _CONFIGURATION.fullmatch(key)
    if found is not None:
        try:
            name = digest(json.loads(content))
        except (ValueError, TypeError, RecursionError):
            name = found[1]
        changed.pop(key, None)
        changed = {path: _renamed(path, body, found[1], name) for path, body in changed.items()}
        key = key.replace(found[1], name)
    changed[key] = content
    folder = key.rpartition("/")[0]
    manifest = changed.get(f"{folder}/manifest.json")
    if manifest is not None and not key.endswith("manifest.json"):
        body = json.loads(manifest)
        for entry in body["files"]:
            if f"{folder}/{entry['path']}" == key:
                entry |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        changed[f"{folder}/manifest.json"] = json.dumps(resealed(body)).encode()
    return changed


def _renamed(path: str, body: bytes, old: str, new: str) -> bytes:
    if old == new or old.encode() not in body:
        return body
    body = body.replace(old.encode(), new.encode())
    return json.dumps(resealed(json.loads(body))).encode() if path.endswith(".json") else body


def broken_run(data: bytes, rng: random.Random, other: bytes = b"") -> bytes:
    """One file of the run changed in the way of its kind."""
    key, _, content = data.partition(b"\n")
    spare = other.partition(b"\n")[2]
    if key.endswith(b".parquet"):
        return key + b"\n" + broken_table(content, rng, spare if spare[:4] == b"PAR1" else b"")
    if key.endswith(b".json"):
        return key + b"\n" + broken_json(content, rng, spare, seal=resealed)
    return key + b"\n" + broken_bytes(content, rng, spare)


def seeds_of(files: Mapping[str, bytes], *, without: Iterable[str] = ("report/report",)) -> list[bytes]:
    return [key.encode() + b"\n" + data for key, data in files.items() if not any(part in key for part in without)]


def opened(files: Mapping[str, bytes], data: bytes) -> Workspace:
    return Workspace(MemoryStore(with_file(files, data)))


def run_of(files: Mapping[str, bytes]) -> str:
    return next(key.split("/")[1] for key in files if key.startswith("runs/"))


def read_run(data: bytes, *, files: Mapping[str, bytes]) -> None:
    """status, report, diff and gc."""
    from optimas_core.reporting import changes_as_text, damage_told, diff_configurations, report_of
    from optimas_core.reporting._markdown import render_markdown

    workspace = opened(files, data)
    for name in workspace.run_ids():
        _looked_at(workspace.run(name))
    run = workspace.run(run_of(files))
    collect(workspace, run.run_id, dry_run=True, min_age_s=0.0, now_s=1.0)
    report = report_of(run)
    changes_as_text(diff_configurations(report["configuration"]["before"], report["configuration"]["after"]))
    with damage_told(run):
        render_markdown(report)
    json.dumps(report, sort_keys=True)


def _looked_at(run: RunWorkspace) -> None:
    run.read_spec()
    stored = run.latest_state()
    if stored is not None:
        RunState.from_json(stored.data)
    Budget(BudgetSettings(), run).spent()


def write_page(data: bytes, *, files: Mapping[str, bytes]) -> None:
    """The whole report with its figures, and the table beside it."""
    from optimas_core.reporting import write_report

    write_report(opened(files, data).run(run_of(files)))


def _before_the_second_iteration(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The run as it was after its warm-up, but with the preferences and proposals of all its iterations."""
    late = re.compile(r"runs/[^/]+/state/(?:HEAD|0*(?:[2-9]|\d\d+)\.json)")
    first = json.loads(next(data for key, data in files.items() if key.endswith("/state/000001.json")))["state"]["lrf"]
    derived = {key.rpartition("/")[0] for key in files if key.endswith(("/ranking.json", "/decision.json"))}
    derived |= {key.rpartition("/")[0] for key in files if "/lrf/" in key and first not in key}
    return {key: data for key, data in files.items() if not late.fullmatch(key) and key.rpartition("/")[0] not in derived}


def resumed_seeds(files: Mapping[str, bytes]) -> list[bytes]:
    return seeds_of(_before_the_second_iteration(files))


def resumption(project_file: Path, files: Mapping[str, bytes]) -> Callable[[bytes], None]:
    """Goes on with the run after its warm-up: what is committed is read, LRFs, rankings and verdicts are derived from it again."""
    from optimas_core.controller import Controller
    from optimas_core.launchers import InProcessLauncher
    from optimas_core.stages import load_project, open_run

    project = load_project(project_file)
    early = _before_the_second_iteration(files)

    def resume(data: bytes) -> None:
        context = open_run(project, workspace=opened(early, data))
        lease = Lease(context.run)
        lease.acquire()
        launcher = InProcessLauncher(context)
        try:
            assert Controller(context, launcher, lease).run().phase == "finished"
        finally:
            launcher.close()

    return resume
