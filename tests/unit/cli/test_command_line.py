"""Every command's help, what its import loads, and the commands that measure nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optimas_core.stages import load_project

Command = Callable[..., Any]
COMMANDS = [
    "init", "prepare", "doctor", "estimate", "run", "resume", "status", "watch", "stage", "report", "diff", "gc",
    "submit", "cancel", "schedule", "manifests",
]  # fmt: skip
PROPOSE = {"iteration": 1, "component": "lookup", "knob": "k", "configuration": "0" * 32, "preferences": []}
HEAVY = ("torch", "transformers", "peft", "openai", "anthropic", "boto3", "botocore", "pyarrow", "numpy", "matplotlib", "jinja2")


def test_every_command_is_listed(optimas: Command) -> None:
    said = optimas("--help")
    assert said.code == 0 and all(f" {name} " in said.out for name in COMMANDS)
    assert "optimas init my_app" in said.out.splitlines()[-1] or "optimas init my_app" in said.out


@pytest.mark.parametrize("name", COMMANDS)
def test_each_help_ends_with_an_example(optimas: Command, name: str) -> None:
    said = optimas(name, "--help")
    last = [line.strip() for line in said.out.splitlines() if line.strip()][-1]
    assert said.code == 0 and last.startswith("Example:") and f"optimas {name}" in last


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"], capture_output=True, text=True, check=True, timeout=120
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_help_and_the_package_load_no_library_of_the_method() -> None:
    code = "sys.argv = ['optimas', '--help']\nfrom optimas_core.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass"
    assert not loaded_by(code) & set(HEAVY)
    assert not loaded_by("import optimas_core") & set(HEAVY)


def test_the_version_and_a_missing_command(optimas: Command) -> None:
    assert optimas("--version").out.startswith("optimas-kube ")
    assert optimas("improve").code == 2


def test_init_writes_a_project_that_loads(optimas: Command, tmp_path: Path) -> None:
    said = optimas("init", tmp_path / "my_app")
    assert said.code == 0 and "optimas doctor run.yaml" in said.out
    project = load_project(tmp_path / "my_app" / "run.yaml")
    assert set(project.system.optimizable) == {"look_up", "answerer"}
    assert all((len(project.split.train), len(project.split.validation), len(project.split.test)))
    again = optimas("init", tmp_path / "my_app")
    assert again.code == 2 and "exists" in again.err and "nothing was written" in again.err
    (tmp_path / "file").write_text("")
    assert optimas("init", tmp_path / "file" / "below").code == 2


def test_estimate_is_json_for_programs_and_a_table_for_people(optimas: Command, scripted_project: Callable[..., Path]) -> None:
    path = scripted_project(budget={"system_runs": 100})
    data = json.loads(optimas("estimate", path, "--json").out)
    assert data["caps"]["system_runs"] == 100
    for key in ("system_runs", "calls", "tokens"):
        assert data["total"][key] == pytest.approx(sum(part[key] for part in data["parts"])) and data["total"][key] > 0
    assert sys.modules["system"].client.calls == 0
    people = optimas("estimate", path)
    assert people.code == 0 and "sealed test" in people.out and "system_runs 100" in people.out


def test_status_of_an_empty_and_of_no_workspace(optimas: Command, tmp_path: Path) -> None:
    assert json.loads(optimas("status", tmp_path, "--json").out) == []
    assert "no runs" in optimas("status", tmp_path).out
    for command in ("status", "report", "diff", "watch"):
        said = optimas(command, tmp_path, "nobody")
        assert said.code == 2 and "there is no run 'nobody'" in said.err
    assert optimas("status", tmp_path / "absent").code == 2


@pytest.fixture
def request_of(tmp_path: Path) -> Callable[[Any], Path]:
    def write(data: Any) -> Path:
        (tmp_path / "request.json").write_text(data if isinstance(data, str) else json.dumps(data))
        return tmp_path / "request.json"

    return write


def test_one_stage_alone_prints_what_it_committed(
    optimas: Command, scripted_project: Callable[..., Path], request_of: Callable[[Any], Path]
) -> None:
    path = scripted_project()
    project = load_project(path)
    ids = [example.id for example in project.split.train[:4]]
    start = project.system.configuration.digest
    asked = request_of({"iteration": 0, "components": ["answerer"], "configuration": start, "examples": ids})
    first = optimas("stage", "generate-preferences", path, "--request", asked)
    name = first.out.strip()
    assert first.code == 0 and len(name) >= 8
    calls = sys.modules["system"].client.calls
    assert calls > 0 and optimas("stage", "generate-preferences", path, "--request", asked).out.strip() == name
    asked = request_of({"iteration": 1, "component": "answerer", "knob": "prompt", "configuration": start, "preferences": [name]})
    assert optimas("stage", "propose", path, "--request", asked).code == 0
    asked = request_of({"before": start, "after": start})
    sealed = optimas("stage", "sealed-test", path, "--request", asked)
    assert sealed.code == 2 and "sealed test is read once" in sealed.err


@pytest.mark.parametrize(
    ("stage", "request_data", "said"),
    [
        ("nothing", {}, "there is no stage 'nothing'"),
        ("train-lrf", "{", "cannot be read as JSON"),
        ("train-lrf", [], "not an object"),
        ("train-lrf", {}, "preferences"),
        ("train-lrf", {"preferences": "abc"}, "is no list of texts"),
        ("train-lrf", {"preferences": [], "more": 1}, "unknown key 'more'"),
        ("train-lrf", {"preferences": ["x"]}, "not a digest"),
        ("sealed-test", {"before": "x", "after": "y"}, "read once, at the end"),
        ("sealed-test", {"before": "0" * 32, "after": 5}, "is no text"),
        ("propose", {**PROPOSE, "component": "nobody"}, "no component 'nobody'"),
        ("propose", {**PROPOSE, "knob": "x"}, "no optimizable knob 'x'"),
        ("propose", {**PROPOSE, "iteration": True}, "is no whole number"),
    ],
)
def test_a_request_that_does_not_fit(
    optimas: Command,
    scripted_project: Callable[..., Path],
    request_of: Callable[[Any], Path],
    stage: str,
    request_data: Any,
    said: str,
) -> None:
    found = optimas("stage", stage, scripted_project(), "--request", request_of(request_data))
    assert found.code == 2 and said in found.err and "Traceback" not in found.err
