"""The compiled pipelines are what their sources compile to, and every component is described as it is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
COMPONENTS = sorted(path.parent for path in (ROOT / "components").glob("*/component.py"))
COMPILED = sorted((ROOT / "pipelines").glob("*.yaml"))


def executors(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = next(yaml.safe_load_all(path.read_text()))["deploymentSpec"]["executors"]
    return found


def tasks(body: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [task for part in body.get("components", {}).values() for task in part.get("dag", {}).get("tasks", {}).values()]
    return [*body["root"]["dag"]["tasks"].values(), *inner]


def test_compiled_pipelines_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, "-m", "pipelines", "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", COMPILED, ids=lambda path: path.stem)
def test_no_task_is_cached_and_none_installs_packages(path: Path) -> None:
    body = next(yaml.safe_load_all(path.read_text()))
    assert all(not task.get("cachingOptions", {}).get("enableCache") for task in tasks(body))
    for name, executor in executors(path).items():
        container = executor["container"]
        assert "pip install" not in " ".join([*container.get("command", []), *container.get("args", [])]), name
        assert re.fullmatch(r"\{\{\$\.inputs\.parameters\['pipelinechannel--(train_)?image'\]\}\}", container["image"]), (
            "an image is a parameter"
        )
    declared = body["root"]["inputDefinitions"]["parameters"]
    images = {key: value["defaultValue"] for key, value in declared.items() if key in ("image", "train_image")}
    assert images and {value.split(":")[0] for value in images.values()} <= {"optimas-runtime", "optimas-train"}, "no registry is named"


@pytest.mark.parametrize("path", COMPILED, ids=lambda path: path.stem)
def test_the_wheel_ships_what_was_compiled(path: Path) -> None:
    assert (ROOT / "optimas_core" / "pipelines" / path.name).read_bytes() == path.read_bytes()


def returned(annotation: ast.expr | None) -> dict[str, str]:
    """Names and types of what a body returns: one value, or the fields of a NamedTuple."""
    if annotation is None:
        return {}
    if isinstance(annotation, ast.Call):
        fields = annotation.args[1]
        assert isinstance(fields, ast.List)
        return {ast.literal_eval(pair.elts[0]): ast.unparse(pair.elts[1]) for pair in fields.elts if isinstance(pair, ast.Tuple)}
    return {"Output": ast.unparse(annotation)}


@pytest.mark.parametrize("folder", COMPONENTS, ids=lambda folder: folder.name)
def test_a_component_is_described_as_it_is(folder: Path) -> None:
    tree = ast.parse((folder / "component.py").read_text())
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef))
    declared = {argument.arg: ast.unparse(argument.annotation) for argument in function.args.args if argument.annotation}
    plain = {name: kind for name, kind in declared.items() if not kind.startswith("dsl.Output")}
    shown = {name: kind.removeprefix("dsl.Output[dsl.").removesuffix("]") for name, kind in declared.items() if name not in plain}
    described = yaml.safe_load((folder / "metadata.yaml").read_text())
    assert {name: item["type"] for name, item in described["inputs"].items()} == plain
    outputs = {name: item["type"] for name, item in described["outputs"].items()}
    assert outputs == returned(function.returns) | shown
    assert described["description"] == ast.get_docstring(function)
    assert (folder / "README.md").read_text().startswith(f"# {described['name']}\n")


@pytest.mark.parametrize("folder", [folder for folder in COMPONENTS if folder.name != "controller"], ids=lambda folder: folder.name)
def test_a_body_is_one_import_and_one_call(folder: Path) -> None:
    tree = ast.parse((folder / "component.py").read_text())
    outside = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert "optimas_core" not in " ".join(ast.unparse(node) for node in outside), "imported only where it runs"
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef))
    _document, imported, returned = function.body
    assert isinstance(imported, ast.ImportFrom) and isinstance(returned, ast.Return) and isinstance(returned.value, ast.Call)
