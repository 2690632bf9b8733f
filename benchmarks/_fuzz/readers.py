"""Every reader of a file that someone else may have written, with what a good file looks like and how it is broken."""

from __future__ import annotations

import functools
import hashlib
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from _fuzz.memory_store import MemoryStore
from _fuzz.mutations import broken_bytes, broken_json, broken_tar, broken_yaml
from _fuzz.parquet import broken_table
from _fuzz.single_files import (
    DIGEST,
    PROMPT,
    alone,
    as_json,
    calls,
    files_of,
    leases,
    manifests,
    move_pointer,
    promotions,
    read_configuration,
    read_head,
    read_ledger,
    read_manifest,
    read_prompt,
    read_spec,
    read_state,
    scratch,
    system,
    take_lease,
    use_call,
)
from _fuzz.whole_runs import broken_run, read_run, resealed, resumed_seeds, resumption, seeds_of, write_page
from optimas_core.artifacts import Artifact, Workspace, read_table, unpack_bundle, write_table
from optimas_core.artifacts.tables import VERSIONS
from optimas_core.errors import OptimasError

RESUMPTION = "resumption"
Break = Callable[[bytes, random.Random, bytes], bytes]


@dataclass(frozen=True)
class Target:
    """`read` gets one input and raises OptimasError or nothing; `break_` makes an input of another; `max_cpu_s` for one input; `share`:
    how much of the time it gets, beside the others' 1."""

    name: str
    seeds: Sequence[bytes]
    break_: Break
    read: Callable[[bytes], object]
    max_cpu_s: float = 5.0
    share: float = 1.0


def targets(run: Mapping[str, bytes], resumed: tuple[Path, Mapping[str, bytes]] | None = None) -> list[Target]:
    """All of them. `run`: a finished run, key -> bytes. `resumed`: run.yaml and finished run of a project that is there; without it
    no run is resumed."""
    sealed = functools.partial(broken_json, seal=resealed)
    found = [Target(f"table-{table}", _tables(table), broken_table, functools.partial(_table, table)) for table in VERSIONS]
    found += [
        Target("run-yaml", _specs(), broken_yaml, _run_yaml),
        Target("examples-jsonl", [b'{"id": "a", "question": "q", "n": 1}\n{"id": "b", "question": "r", "n": 2.5}\n'], broken_bytes, _jsonl),
        Target("examples-parquet", [*_tables("validations"), *_tables("rollouts")], broken_table, _parquet_examples),
        Target("manifest", manifests(run), sealed, read_manifest),
        Target("state", files_of(run, "/state/0"), sealed, read_state),
        Target("state-head", files_of(run, "/state/HEAD"), broken_bytes, read_head, share=0.2),
        Target("ledger-record", files_of(run, "/ledger/0"), sealed, read_ledger),
        Target("lease", leases(), broken_json, take_lease),
        Target("promotion", promotions(), broken_json, move_pointer),
        Target("call-record", calls(), sealed, use_call),
        Target("configuration", files_of(run, "/configurations/"), broken_json, read_configuration),
        Target("prompt", [as_json(PROMPT.to_json())], broken_json, read_prompt),
        Target("spec", files_of(run, "/spec.json"), broken_json, read_spec),
        Target("stage-request", _requests(), broken_json, _request),
        Target("stage-artifact", _stage_artifacts(run), broken_run, functools.partial(_stage_artifact, run)),
        Target("lrf", _lrfs(run), broken_run, functools.partial(_lrf, run)),
        Target("bundle", _bundles(), broken_tar, _bundle),
        Target("address", [b"s3://bucket/prefix", b"./workspace", b"file:///data/x", b"/data/x"], _broken_text, _address, share=0.2),
        Target("name", [b"run-1", b"my.system_2"], _broken_text, _name, share=0.2),
        Target("whole-run", seeds_of(run), broken_run, functools.partial(read_run, files=run), share=3.0),
        Target("report-page", seeds_of(run), broken_run, functools.partial(write_page, files=run), max_cpu_s=30.0, share=3.0),
    ]
    if resumed is not None:
        found.append(Target(RESUMPTION, resumed_seeds(resumed[1]), broken_run, resumption(*resumed), max_cpu_s=30.0, share=4.0))
    return found


# Tables


def _tables(table: str) -> list[bytes]:
    examples = {"text": "x", "json": '{"a":1}', "int": 1, "float": 0.5, "bool": True}
    version = VERSIONS[table][max(VERSIONS[table])]
    columns = version.columns
    row = {item.name: item.allowed[0] if item.allowed else examples[item.type] for item in columns}
    key = next(item.name for item in columns if item.type == "int" and item.name in version.key)
    about = {"run_id": "r1", "created_at": "2025-01-01T00:00:00Z"}
    several = [{**row, key: n} for n in range(3)]
    empty = [{item.name: None if item.nullable else row[item.name] for item in columns}]
    return [write_table(table, rows, **about) for rows in (several, empty, [])]


def _table(table: str, data: bytes) -> None:
    read_table(table, data, file="t.parquet")


def _parquet_examples(data: bytes) -> None:
    _examples("rows.parquet", data)


def _jsonl(data: bytes) -> None:
    _examples("rows.jsonl", data)


def _examples(name: str, data: bytes) -> None:
    from optimas_core.system import read_examples

    path = scratch() / name
    path.write_bytes(data)
    read_examples(name, base=path.parent)


# run.yaml, requests, addresses


def _specs() -> list[bytes]:
    import optimas_core.cli

    template = Path(optimas_core.cli.__file__).with_name("template") / "run.yaml"
    whole = {
        "system": "system:build",
        "data": {"train": "a.jsonl", "validation": "b.jsonl", "test": "hf:x/y:test", "id_column": "id"},
        "workspace": "s3://bucket/x",
        "seed": 1,
        "budget": {"usd": 1.5, "tokens": 1000, "system_runs": 20, "hours": 0.5},
        "optimizers": {"proposers": ["opro", "edits"], "candidates": 2, "selection_mode": "per_input"},
        "acceptance": {"kind": "strict", "items": 20},
        "schedule": {"iterations": 2, "patience": 1, "selection": {"kind": "gain", "exploration": 0.2}},
        "prices": {"openai/x": {"usd_per_million_in": 0.1, "usd_per_million_out": 2}},
    }
    return [template.read_bytes(), yaml.safe_dump(whole).encode(), b"a: &a {b: 1}\nc: {<<: *a, d: 2}\nsystem: m:f\n"]


def _run_yaml(data: bytes) -> None:
    from optimas_core.spec import load_run_settings

    path = scratch() / "run.yaml"
    path.write_bytes(data)
    load_run_settings(path).model_dump_json()


def _requests() -> list[bytes]:
    plain: list[dict[str, Any]] = [
        {"preferences": [DIGEST, DIGEST]},
        {"iteration": 1, "component": "c", "lrf": DIGEST, "mini_batch": DIGEST, "replay": [DIGEST]},
        {"iteration": 1, "incumbent": DIGEST, "challenger": DIGEST, "alpha": 0.05, "accepted": 0},
    ]
    return [as_json(item) for item in plain]


def _request(data: bytes) -> None:
    from optimas_core.cli._stage import _STAGES
    from optimas_core.cli._stage import _request as read

    path = scratch() / "request.json"
    path.write_bytes(data)
    failures = []
    for _, kind in _STAGES.values():
        try:
            read(kind, path)
        except OptimasError as error:
            failures.append(error)
    if len(failures) == len(_STAGES):  # else some stage is asked rightly
        raise next((error for error in failures if "unknown key" not in error.message), failures[0])


def _broken_text(data: bytes, rng: random.Random, other: bytes = b"") -> bytes:
    words = (
        b"..",
        b"/",
        b"//",
        b"@",
        b"?",
        b"#",
        b"%00",
        b"%2e%2e",
        b"[",
        b"]",
        b"\\",
        b"\0",
        b"s3://",
        b"user:pw@",
        b"\xed\xa0\x80",
        b"x" * 900,
    )
    at = rng.randrange(len(data) + 1)
    made = data[:at] + rng.choice(words) + data[at:]
    return broken_bytes(made, rng, other) if rng.random() < 0.3 else made


def _address(data: bytes) -> None:
    """Only what needs no network: opening an address asks no server."""
    from optimas_core.artifacts import open_store

    open_store(data.decode("utf-8", "surrogateescape"))


def _name(data: bytes) -> None:
    workspace = Workspace(MemoryStore({}))
    text = data.decode("utf-8", "surrogateescape")
    workspace.run(text)
    workspace.promoted(text)


# Artifacts of stages


def _stage_artifacts(run: Mapping[str, bytes]) -> list[bytes]:
    kinds = (b"/preferences/", b"/proposals/", b"/validations/", b"/lrf/")
    keys = ((seed, seed.partition(b"\n")[0]) for seed in seeds_of(run))
    return [seed for seed, key in keys if any(kind in key for kind in kinds) and not key.endswith(b"manifest.json")]


def _stage_artifact(run: Mapping[str, bytes], data: bytes) -> None:
    """What later stages read of earlier ones."""
    from _fuzz.whole_runs import opened
    from optimas_core.stages._generate_preferences import read_proposals
    from optimas_core.stages._local_optimize import read_ranking
    from optimas_core.stages._lrf import read_metrics
    from optimas_core.stages._preference_tables import observations, read_measured, read_pairs
    from optimas_core.stages._validate_accept import read_decision

    workspace = opened(run, data)
    parts = data.partition(b"\n")[0].decode("utf-8", "replace").split("/")
    if len(parts) != 5:
        return
    _, name, kind, folder, file = parts
    found = workspace.run(name)
    artifact = found.open_artifact(kind, folder)
    if artifact is None:
        return
    context: Any = SimpleNamespace(required=lambda kind, name: found.open_artifact(kind, name), system=system())
    match kind, file:
        case "preferences", "pairs.parquet":
            read_pairs(artifact)
        case "preferences", "rollouts.parquet":
            read_measured(artifact), observations([artifact], "answerer")
        case "proposals", "ranking.json":
            read_ranking(context, folder)
        case "proposals", _:
            read_proposals(context, folder) if "proposals.json" in artifact.names else None
        case "validations", _:
            read_decision(context, folder)
        case "lrf", "metrics.json":
            read_metrics(context, folder)
        case _:
            _read_all(artifact)


def _read_all(artifact: Artifact) -> None:
    for name in artifact.names:
        if name.endswith(".json"):
            artifact.read_json(name)
        artifact.read(name)


def _lrfs(run: Mapping[str, bytes]) -> list[bytes]:
    return [seed for seed in _stage_artifacts(run) if b"/lrf/" in seed and b"metrics" not in seed.partition(b"\n")[0]]


def _lrf(run: Mapping[str, bytes], data: bytes) -> None:
    from optimas_core.rewards._files import unpack

    key, _, content = data.partition(b"\n")
    folder, _, name = key.decode("utf-8", "replace").rpartition("/")
    files = {path.rpartition("/")[2]: body for path, body in run.items() if path.startswith(f"{folder}/")}
    unpack(files | {name: content})


def _bundles() -> list[bytes]:
    from optimas_core.artifacts._bundle_archive import BundleFile, archive_of

    files = [BundleFile("app/system.py", b"x = 1\n", True), BundleFile("run.yaml", b"a: 1\n", False)]
    return [archive_of(files), archive_of(files[1:])]


def _bundle(data: bytes) -> None:
    """A system's code out of the workspace: nothing of it may lie outside its folder."""
    name = hashlib.sha256(data).hexdigest()
    with tempfile.TemporaryDirectory(dir=scratch()) as below:
        unpack_bundle(alone(f"bundles/{name}", data), name, Path(below) / "in")
        outside = [str(path) for path in Path(below).iterdir() if path.name != "in"]
        assert not outside, f"files outside the folder: {outside}"
