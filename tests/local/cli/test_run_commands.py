"""The commands around a whole run of the scripted system: one run, looked at from every side."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optimas_core.artifacts import Lease, Workspace
from optimas_core.errors import EnvironmentNotReady
from optimas_core.models.embedded import embedded_path

Command = Callable[..., Any]
Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def prepared() -> None:
    try:
        embedded_path("all-minilm-l6-v2")
    except EnvironmentNotReady as error:
        pytest.skip(str(error))


def asked() -> int:
    return int(sys.modules["system"].client.calls)


def test_a_run_from_doctor_to_gc(optimas: Command, scripted_project: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "sk-planted-5f1c0e8a"
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    path = scripted_project(name="colours")
    place = path.parent / "workspace"

    findings = json.loads((said := optimas("doctor", path, "--json")).out)
    assert said.code == 0 and [item["ok"] for item in findings] == [True] * 5

    at_most = json.loads(optimas("estimate", path, "--json").out)["total"]
    first = optimas("run", path, "--json")
    assert first.code == 0, first.err
    ended = json.loads(first.out)
    assert ended["verdict"]["kind"] == "improved" and Path(ended["report"]).is_file()
    row = json.loads(optimas("status", place, "--json").out)[0]
    assert (row["run_id"], row["phase"], row["iteration"]) == ("colours", "finished", 3) and row["accepted"] >= 1
    assert 0 < row["system_runs"] <= at_most["system_runs"], "what `estimate` said is an upper bound"

    # Again: the same run, nothing to do, the same verdict.
    calls = asked()
    for command in ("run", "resume"):
        again = optimas(command, path, "--json")
        assert (again.code, json.loads(again.out)) == (0, ended) and asked() == calls
    assert [state.index for state in Workspace.open(place).run("colours").states()] == list(range(7))

    watched = optimas("watch", place, "colours")
    assert watched.code == 0 and "finished" in watched.out.splitlines()[-1] and len(watched.out.splitlines()) == 7
    report = optimas("report", place, "colours", "--json", "-o", tmp_path / "here")
    assert json.loads(report.out)["verdict"] == ended["verdict"]
    assert {file.name for file in (tmp_path / "here").iterdir()} == {"ledger.parquet", "report.html", "report.json", "report.md"}
    (tmp_path / "file").write_text("")
    assert optimas("report", place, "colours", "-o", tmp_path / "file").code == 2
    changed = json.loads(optimas("diff", place, "colours", "--json").out)
    assert changed["before"] != changed["after"] and optimas("diff", place, "colours").out.strip()
    digest = next((place / "runs/colours/configurations").iterdir()).stem
    assert "No difference" in optimas("diff", place, "colours", "--from", digest, "--to", digest).out
    for wrong in ("0" * 32, "no digest"):
        assert (bad := optimas("diff", place, "colours", "--from", wrong)).code == 2 and wrong in bad.err

    # Garbage goes, what a manifest names stays.
    left = place / "runs/colours/lrf" / ("0" * 32) / "heads.safetensors"
    left.parent.mkdir()
    left.write_bytes(b"half written")
    os.utime(left, (0, 0))
    assert json.loads(optimas("gc", place, "--json").out)["removed"] == [f"runs/colours/lrf/{'0' * 32}/heads.safetensors"]
    assert json.loads(optimas("gc", place, "--dry-run", "--min-age-hours", 0, "--json").out)["removed"] == []
    assert optimas("report", place, "colours").code == 0

    files = [file for file in path.parent.rglob("*") if file.is_file()]
    assert len(files) > 100 and not [file for file in files if secret.encode() in file.read_bytes()], "no key in any file"


def test_another_spec_of_that_name_is_refused_and_a_budget_ends_a_run(optimas: Command, scripted_project: Write) -> None:
    path = scripted_project(name="small", budget={"system_runs": 55})
    said = optimas("run", path)
    assert said.code == 3 and "budget.system_runs = 55 would be exceeded" in said.err and "Unfinished" in said.out
    assert 0 < json.loads(optimas("status", path.parent / "workspace", "--json").out)[0]["system_runs"] <= 55
    path.write_text(path.read_text().replace("seed: 1", "seed: 2"))
    before = asked()
    other = optimas("run", path)
    assert other.code == 2 and "was started with another spec" in other.err and asked() == before


def test_a_higher_cap_goes_on(optimas: Command, scripted_project: Write) -> None:
    path = scripted_project(name="more", budget={"system_runs": 55})
    assert optimas("run", path).code == 3 and asked() > 0
    path.write_text(path.read_text().replace("system_runs: 55", "system_runs: 150"))
    said = optimas("resume", path, "--json")
    assert said.code == 0, said.err
    row = json.loads(optimas("status", path.parent / "workspace", "--json").out)[0]
    assert row["phase"] == "finished" and row["iteration"] < 3 and "budget.system_runs = 150" in row["stop_reason"]
    assert row["system_runs"] <= 150, "the sealed test was held back for"


def test_a_run_that_another_process_holds(optimas: Command, scripted_project: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimas_core.cli._run._LEASE_WAIT_S", 0.0)
    path = scripted_project(name="held")
    lease = Lease(Workspace.open(path.parent / "workspace").run("held"), ttl_s=1.5)
    lease.acquire()
    with lease.keep():
        said = optimas("run", path)
    assert said.code == 4 and "is alive" in said.err and asked() == 0


def test_wrong_credentials_end_before_the_first_call(
    optimas: Command, scripted_project: Write, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = scripted_project(workspace=s3_url)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    said = optimas("run", path)
    assert said.code == 2 and said.err.startswith("optimas: ") and len(said.err.splitlines()) == 1 and asked() == 0


def test_a_bucket_that_is_not_there(optimas: Command, scripted_project: Write, s3_environment: Any) -> None:
    said = optimas("run", scripted_project(workspace="s3://no-such-bucket-here/x"))
    assert said.code == 2 and "no-such-bucket-here" in said.err and len(said.err.splitlines()) == 1 and asked() == 0
