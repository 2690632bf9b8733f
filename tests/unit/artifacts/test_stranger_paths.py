"""No name that someone else may choose leads out of the workspace: run ids, systems, digests, manifest entries, links, addresses."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optimas_core.artifacts import DirectoryStore, Lease, Workspace, collect, open_store
from optimas_core.canonical import canonical_json, digest_bytes
from optimas_core.errors import ArtifactCorrupt, EnvironmentNotReady, OptimasError, SpecError

DIGEST = "ab" * 16
TRICKS = [
    "..",
    ".",
    "",
    "../up",
    "a/../../up",
    "/etc/passwd",
    "//server/share",
    "a//b/..",
    "..\\up",
    "C:\\up",
    "a\0b",
    "a\nb",
    "~",
    "~root",
    "$HOME",
    "%2e%2e%2fup",
    ".lock",
    ".tmp-1",
    "-rf",
    "a b",
    "x" * 300,
    "x" * 100_000,
    "\u2025",  # two dot leader
    "\uff0e\uff0e/up",  # full-width full stops
    "a\u2215b",  # division slash
    "a\u2044b",  # fraction slash
    "r\u0443n",  # a Cyrillic letter
    "\uff52\uff55\uff4e",  # full-width letters
    "run\u200b",  # zero width space
    "run\u202e",  # right to left
    "\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668",  # Arabic digits
    "\ud800",
]
NOT_DIGESTS = [*TRICKS, "AB" * 16, "ab" * 33, "abc", "\u0430b" * 16, "ab" * 16 + "\n"]


@pytest.fixture
def fenced(tmp_path: Path) -> Any:
    """The path of a workspace in a folder of its own; at the end nothing else may lie beside it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.json").write_text('{"secret": 1}')
    place = tmp_path / "fence" / "workspace"
    place.parent.mkdir()
    yield place
    assert os.listdir(place.parent) in ([], ["workspace"]) and os.listdir(outside) == ["secret.json"]
    assert (outside / "secret.json").read_text() == '{"secret": 1}'


@pytest.mark.parametrize("name", TRICKS, ids=lambda name: ascii(name)[:20])
def test_names_of_runs_and_systems(fenced: Path, name: str) -> None:
    workspace = Workspace.open(fenced)
    for use in (workspace.run, workspace.promoted, lambda name: collect(workspace, name)):
        with pytest.raises(SpecError, match="cannot be used as a name") as caught:
            use(name)
        assert len(str(caught.value)) < 400
    with pytest.raises(SpecError):
        workspace.promoted("s").promote(DIGEST, run_id=name, at="t")


@pytest.mark.parametrize("name", NOT_DIGESTS, ids=lambda name: ascii(name)[:20])
def test_digests_kinds_and_file_names(fenced: Path, name: str) -> None:
    run = Workspace.open(fenced).run("r")
    facts: dict[str, Any] = {"inputs": {}, "producer": "p", "created_at": "t"}
    for use in (
        lambda: run.open_artifact("lrf", name),
        lambda: run.open_artifact(f"lrf/{name}", DIGEST),
        lambda: run.commit_artifact("lrf", name, {"a": b""}, **facts),
        lambda: run.read_configuration(name),
        lambda: Workspace.open(fenced).calls.get(name),
        lambda: Workspace.open(fenced).calls.put(name, {}),
        lambda: Workspace.open(fenced).promoted("s").promote(name, run_id="r", at="t"),
    ):
        with pytest.raises(ValueError) as caught:
            use()
        assert len(str(caught.value)) < 400
    assert run.read_file(f"../{name}") is None
    assert not fenced.exists(), "nothing was written at all"


@pytest.mark.parametrize("name", [name for name in TRICKS if name not in ("x" * 300,)], ids=lambda name: ascii(name)[:20])
def test_files_of_a_commit_and_of_a_report(fenced: Path, name: str) -> None:
    run = Workspace.open(fenced).run("r")
    facts: dict[str, Any] = {"inputs": {}, "producer": "p", "created_at": "t"}
    if name != "-rf":
        with pytest.raises(ValueError):
            run.commit_artifact("lrf", DIGEST, {name: b"x"}, **facts)
    for folder in ("report/", "ledger/", ""):
        with pytest.raises(ValueError):
            run.write_file(f"{folder}../{name}", b"x")


def stored_manifest(place: Path, **changes: Any) -> None:
    """A manifest whose check sum is right: everything in it was written by someone who knows the format."""
    body: dict[str, Any] = {"format": 1, "kind": "lrf", "digest": DIGEST, "inputs": {}, "schemas": {}, "producer": "p", "created_at": "t"}
    body |= changes
    body["check"] = digest_bytes(canonical_json(body).encode("utf-8", "surrogatepass"))
    DirectoryStore(place).put(f"runs/r/lrf/{DIGEST}/manifest.json", json.dumps(body).encode())


def entry(**changes: Any) -> dict[str, Any]:
    return {"name": "a.json", "path": "a.json", "size": 2, "sha256": "0" * 64} | changes


# "-rf" and a long name are file names like others once they stand below a folder of ours.
@pytest.mark.parametrize("name", [name for name in TRICKS if name != "-rf"], ids=lambda name: ascii(name)[:20])
def test_files_that_a_manifest_names(fenced: Path, name: str) -> None:
    for changed in ({"name": name}, {"path": name}, {"name": f"sub/{name}"}, {"path": f"sub/{name}"}):
        stored_manifest(fenced, files=[entry(**changed)])
        with pytest.raises(ArtifactCorrupt, match="is not a manifest") as caught:
            Workspace.open(fenced).run("r").open_artifact("lrf", DIGEST)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "changes",
    [
        {"files": [entry(size=-1)]},
        {"files": [entry(size=1.5)]},
        {"files": [entry(size=True)]},
        {"files": [entry(size="2")]},
        {"files": [entry(sha256="../../x")]},
        {"files": [entry(sha256=5)]},
        {"files": [entry(name=5)]},
        {"files": [entry(), entry(path="b.json")]},
        {"files": [5]},
        {"files": 5},
        {"files": {"a": 1}},
        {"inputs": [], "files": []},
        {"inputs": {"a": 1}, "files": []},
        {"schemas": {"rollouts": "1"}, "files": []},
        {"producer": None, "files": []},
        {"kind": "../lrf", "files": []},
        {"digest": "../" + DIGEST, "files": []},
    ],
    ids=ascii,
)
def test_manifests_of_another_shape(fenced: Path, changes: dict[str, Any]) -> None:
    stored_manifest(fenced, **changes)
    with pytest.raises(ArtifactCorrupt):
        Workspace.open(fenced).run("r").open_artifact("lrf", DIGEST)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"format": 1, "format": 1}',
        b'{"format": NaN}',
        b'{"format": 1e999, "check": "x", "files": []}',
        b'{"format": 2}',
        b"[" * 100_000,
        b'{"a":' * 200 + b"1" + b"}" * 200,
        b"null",
        b'"manifest"',
        b"\xff\xfe",
        b"",
    ],
    ids=lambda raw: ascii(raw[:30]),
)
def test_manifests_that_are_other_json(fenced: Path, raw: bytes) -> None:
    DirectoryStore(fenced).put(f"runs/r/lrf/{DIGEST}/manifest.json", raw)
    with pytest.raises(ArtifactCorrupt, match="manifest.json"):
        Workspace.open(fenced).run("r").open_artifact("lrf", DIGEST)


def test_a_promotion_that_points_elsewhere(fenced: Path) -> None:
    good = {"serial": 1, "action": "promote", "configuration": DIGEST, "run_id": "r", "at": "t", "note": ""}
    changes: list[dict[str, Any]] = [
        *({"configuration": name} for name in NOT_DIGESTS),
        *({"run_id": name} for name in TRICKS),
        {"action": "erase"},
        {"serial": True},
        {"serial": 1.0},
        {"at": 5},
        {"note": None},
        {"surprise": 1},
        {"run_id": 5},
    ]
    store, pointer = DirectoryStore(fenced), Workspace.open(fenced).promoted("s")
    for change in changes:
        store.put("current/s", json.dumps({"history": [good | change]}).encode(), durable=False)
        with pytest.raises(ArtifactCorrupt, match="is not a promotion history"):
            pointer.current()
    for body in ({"history": [good, good]}, {"history": 5}, [good], {"history": ["a"]}):
        store.put("current/s", json.dumps(body).encode(), durable=False)
        with pytest.raises(ArtifactCorrupt):
            pointer.promote(DIGEST, run_id="r", at="t")
    store.put("current/s", json.dumps({"history": [good | {"action": "rollback"}]}).encode())
    with pytest.raises(OptimasError, match="no promoted configuration before"):
        pointer.rollback(at="t")


@pytest.mark.parametrize(
    "change",
    [
        {"ttl_s": 1e300},
        {"ttl_s": "30"},
        {"ttl_s": -1},
        {"epoch": 2**70},
        {"epoch": "1"},
        {"counter": True},
        {"holder": 5},
        {"process": {"host": "h", "machine": "m", "pid": "../../etc", "started": "1"}},
        {"process": {"host": "h", "machine": "m", "pid": -1, "started": "1"}},
        {"process": {"host": 1, "machine": "m", "pid": 1, "started": "1"}},
        {"process": 5},
    ],
    ids=ascii,
)
def test_a_lease_from_a_stranger_neither_waits_for_ever_nor_reads_elsewhere(fenced: Path, change: dict[str, Any]) -> None:
    run = Workspace.open(fenced).run("r")
    good = {"holder": "x", "epoch": 1, "counter": 0, "ttl_s": 30.0, "released": True}
    good["process"] = {"host": "h", "machine": "m", "pid": 1, "started": "1"}
    run.store.put(f"{run.prefix}/lease.json", json.dumps(good).encode(), durable=False)
    Lease(run).acquire()
    run.store.put(f"{run.prefix}/lease.json", json.dumps(good | change).encode(), durable=False)
    with pytest.raises(ArtifactCorrupt, match="lease.json is damaged"):
        Lease(run).acquire()


# Links inside a directory workspace


@pytest.mark.parametrize("link", ["runs", "runs/r", "runs/r/state", "runs/r/lrf", f"runs/r/lrf/{DIGEST}", "calls", "calls/ab", "current"])
def test_a_folder_that_leads_outside(fenced: Path, tmp_path: Path, link: str) -> None:
    (fenced / link).parent.mkdir(parents=True)
    (fenced / link).symlink_to(tmp_path / "outside", target_is_directory=True)
    workspace = Workspace.open(fenced)
    facts: dict[str, Any] = {"inputs": {}, "producer": "p", "created_at": "t"}
    uses: list[Callable[[], Any]] = [
        lambda: workspace.run("r").freeze_spec({"a": 1}),
        lambda: workspace.run("r").append_state(0, {}),
        lambda: workspace.run("r").commit_artifact("lrf", DIGEST, {"secret.json": b"x"}, **facts),
        lambda: workspace.calls.put(DIGEST, {}),
        lambda: workspace.promoted("secret.json").promote(DIGEST, run_id="r", at="t"),
        lambda: workspace.run("r").open_artifact("lrf", DIGEST),
        lambda: workspace.run_ids(),
        lambda: collect(workspace, min_age_s=0.0, now_s=time.time() + 10),
    ]
    refused = 0
    for use in uses:
        try:
            use()
        except ArtifactCorrupt as error:
            assert "symbolic link that leads out of the workspace" in str(error)
            refused += 1
    assert refused >= 1


@pytest.mark.parametrize("target", ["outside/secret.json", "nowhere", "fence/workspace/runs/r/spec.json"])
def test_a_file_that_is_a_link(fenced: Path, tmp_path: Path, target: str) -> None:
    (fenced / "runs" / "r" / "state").mkdir(parents=True)
    for name in ("spec.json", "state/000000.json", "lease.json"):
        (fenced / "runs" / "r" / name).symlink_to(tmp_path / target)
    run = Workspace.open(fenced).run("r")
    for use in (run.read_spec, lambda: run.read_state(0), lambda: Lease(run).acquire()):
        with pytest.raises(ArtifactCorrupt, match="is a symbolic link"):
            use()
    with pytest.raises((ArtifactCorrupt, OptimasError)):
        run.freeze_spec({"a": 1})
    assert collect(Workspace.open(fenced), min_age_s=0.0, now_s=time.time() + 10) == []


def test_the_lock_file_is_no_way_out(fenced: Path, tmp_path: Path) -> None:
    fenced.mkdir()
    (fenced / ".lock").symlink_to(tmp_path / "outside" / "new")
    store = DirectoryStore(fenced)
    with pytest.raises(OptimasError, match="cannot write k"):
        store.put("k", b"1")
    assert not (tmp_path / "outside" / "new").exists()


def test_a_workspace_that_is_itself_a_link_is_fine(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    Workspace.open(tmp_path / "link").run("r").freeze_spec({"a": 1})
    assert (tmp_path / "disk" / "runs" / "r" / "spec.json").is_file()


# Addresses


@pytest.mark.parametrize(
    "place",
    [
        "a\0b",
        "file:///a%00b",
        "file://server/share",
        "file://",
        "s3://",
        "s3:///x",
        "s3://bucket/../x",
        "s3://bucket/a//b",
        "s3://bucket/.hidden",
        "s3://bucket/" + "x" * 1000,
        "s3://buck et/x",
        "s3://bucket/\u0430\u2215",
        "s3://[::1/x",
        "http://[::1/x",
        "s3://bucket/x#f",
        "://x",
    ],
    ids=ascii,
)
def test_a_workspace_that_cannot_be_there(place: str) -> None:
    with pytest.raises(EnvironmentNotReady) as caught:
        open_store(place)
    assert len(str(caught.value)) < 450


@pytest.mark.parametrize(
    "place",
    [
        "s3://AKIASECRETKEY:verysecret@bucket/x",
        "s3://verysecret@bucket/x",
        "s3://bucket/x?X-Amz-Security-Token=verysecret",
        "http://user:verysecret@host/x",
        "https://host/x?sig=verysecret",
        "gs://user:very@secret@bucket/x",
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(place: str) -> None:
    with pytest.raises(EnvironmentNotReady) as caught:
        open_store(place)
    for secret in ("verysecret", "AKIASECRETKEY", "very@"):
        assert secret not in str(caught.value) and secret not in repr(caught.value)


def test_a_name_longer_than_the_system_allows_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentNotReady, match="File name too long"):
        Workspace.open(tmp_path / ("x" * 300)).run("r").freeze_spec({"a": 1})


# The command line


def test_every_command_says_it_in_one_sentence(optimas: Callable[..., Any], scripted_project: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    place = tmp_path / "place"
    place.mkdir()
    path = scripted_project()
    commands: list[tuple[object, ...]] = [
        *(("report", place, name) for name in TRICKS if "\0" not in name and name != "\ud800" and not name.startswith("-")),
        ("status", "x" * 5000),
        ("status", tmp_path / "loop"),
        ("status", "s3://AK:SK@bucket/x"),
        ("status", place, "../up"),
        ("gc", place, ".."),
        ("diff", place, "../x"),
        ("run", path, "--name", "../up"),
        ("run", path, "--workspace", tmp_path / "loop"),
        ("run", path, "--workspace", "x" * 5000),
        ("doctor", path, "--workspace", "s3://bucket/../x"),
        ("estimate", "x" * 5000),
        ("estimate", tmp_path / "loop"),
        ("stage", "train-lrf", path, "--request", "x" * 5000),
    ]
    for command in commands:
        said = optimas(*command)
        text = said.err + (said.out if command[0] == "doctor" else "")
        loop = said.code == 1 and "is a symbolic link" in said.err
        assert (said.code == 2 or loop) and "Traceback" not in text and "SK@" not in text, (command, said)
        assert len(said.err.splitlines()) <= 1 and len(text) < 12_000, (command, said)
    assert set(os.listdir(place)) <= {"probe", ".lock"}, "what a check of the store leaves"


def test_a_stage_request_is_a_stranger_s_too(optimas: Callable[..., Any], scripted_project: Callable[..., Path]) -> None:
    path = scripted_project()
    request = path.parent / "request.json"
    for text in (
        '{"preferences": ["../../x"]}',
        '{"preferences": ["a\\u0000b"]}',
        '{"preferences": [], "preferences": []}',
        '{"preferences": NaN}',
        '{"preferences": 1e999}',
        "[" * 100_000,
        '{"preferences": ["' + "x" * 100_000 + '"]}',
    ):
        request.write_text(text)
        said = optimas("stage", "train-lrf", path, "--request", request)
        assert said.code == 2 and len(said.err.splitlines()) == 1 and len(said.err) < 1000, (text[:40], said.err[:2000])


def test_data_may_be_anywhere_the_user_says(tmp_path: Path) -> None:
    from optimas_core.errors import DataError
    from optimas_core.system import read_examples

    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "rows.jsonl").write_text('{"id": "a"}\n')
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "elsewhere" / "rows.jsonl")
    (tmp_path / "project").mkdir()
    for source in ("../elsewhere/rows.jsonl", str(tmp_path / "elsewhere" / "rows.jsonl"), "../link.jsonl"):
        assert read_examples(source, base=tmp_path / "project")[0].id == "a"
    for source in ("x" * 5000, "a\0b", "..", "/", "", "/dev/null", "\ud800"):
        with pytest.raises(DataError, match="does not exist"):
            read_examples(source, base=tmp_path)
