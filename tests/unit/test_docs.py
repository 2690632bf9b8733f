"""The prose keeps up with the code: links resolve, commands and settings exist, examples run, the paper index names real functions."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.main import get_command

from optimas_core.cli._app import app
from optimas_core.spec import RunSettings, freeze

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(file for folder in ("docs", "examples", "benchmarks") for file in (ROOT / folder).rglob("*.md")))
    if "workspace" not in path.relative_to(ROOT).parts
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", prose(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        where, _, anchor = target.partition("#")
        file = (page.parent / where).resolve() if where else page
        if not file.is_file() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert not broken, f"{name_of(page)} links to {broken}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_named_in_prose_and_blocks_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    command = get_command(app)
    known = command.commands  # type: ignore[attr-defined]
    called = set(re.findall(r"(?:`|^|bin/)optimas ([a-z][a-z-]*)", text, flags=re.MULTILINE))
    assert called <= set(known), f"{name_of(page)} names {sorted(called - set(known))}"
    for line in re.findall(r"^(?:\S*/)?optimas [a-z-]+ .*$", text, flags=re.MULTILINE):
        words = line.split("#")[0].split()
        options = {option for parameter in known[words[1]].params for option in (*parameter.opts, *parameter.secondary_opts)}
        unknown = [word for word in words[2:] if word.startswith("-") and word not in options]
        assert not unknown, f"{name_of(page)}: {line.strip()!r} has {unknown}"


def test_every_command_stands_in_the_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    missing = [name for name in get_command(app).commands if f"`{name}`" not in text]  # type: ignore[attr-defined]
    assert not missing


def test_make_targets_named_in_the_docs_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = {word for page in PAGES for word in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)}
    assert named and named <= targets, sorted(named - targets)


PYTHON = [(page, number) for page in PAGES for number in range(len(blocks(page, "python")))]


@pytest.mark.parametrize(("page", "number"), PYTHON, ids=lambda value: value.name if isinstance(value, Path) else str(value))
def test_python_examples_run(page: Path, number: int) -> None:
    code = compile(blocks(page, "python")[number], f"{name_of(page)} block {number}", "exec")
    namespace: dict[str, Any] = {"__name__": "example"}
    try:
        exec(code, namespace)
    except Exception as error:
        raise AssertionError(f"{name_of(page)} block {number}: {type(error).__name__}: {error}") from error
    if "build" in namespace:
        assert namespace["build"]().optimizable


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_yaml_examples_are_settings(page: Path) -> None:
    for block in blocks(page, "yaml"):
        freeze({"system": "a:b", "data": {}, **yaml.safe_load(block)}, where=name_of(page))


def settings_keys() -> dict[str, str]:
    """Key of run.yaml -> its default as JSON; alternatives of one section share their keys, the default's own value counts."""
    return dict(_keys(RunSettings, "", None))


def _keys(model: type[BaseModel], prefix: str, default: Any) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        value = getattr(default, name, field.default)
        sections = _models(field.annotation)
        if getattr(field.annotation, "__origin__", None) is dict:
            yield key, json.dumps(value)
            yield from _keys(sections[0], f"{key}.<client id>.", None)
        elif sections:
            chosen = None if value is PydanticUndefined else value
            merged: dict[str, str] = {}
            for section in sorted(sections, key=lambda item: chosen is None or not isinstance(chosen, item)):
                for inner, shown in _keys(section, f"{key}.", chosen if chosen is not None and isinstance(chosen, section) else None):
                    merged.setdefault(inner, shown)
            yield from merged.items()
        else:
            yield key, "required" if value is PydanticUndefined else json.dumps(value)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for item in get_args(annotation) for found in _models(item)]


def test_the_reference_lists_every_key_with_its_default() -> None:
    text = (ROOT / "docs" / "10-run-yaml.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| \S.*\|$", text, flags=re.MULTILINE))
    assert listed == settings_keys()


PLACE = re.compile(r"`([\w/]+\.py):([\w.]+)`")


def test_the_paper_index_names_what_exists() -> None:
    places = PLACE.findall((ROOT / "docs" / "paper_index.md").read_text(encoding="utf-8"))
    assert len(places) > 40
    missing = [f"{file}:{name}" for file, name in places if not (ROOT / file).is_file() or name not in _defined(ROOT / file)]
    assert not missing


def _defined(path: Path) -> set[str]:
    """Functions, classes, methods and module constants of a file."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
            if isinstance(node, ast.ClassDef):
                methods = (item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef))
                found |= {f"{node.name}.{item.name}" for item in methods}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def test_every_dependency_has_its_reason() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(item for extra in project["optional-dependencies"].values() for item in extra)]
    names = {re.split(r"[<>=!\[ ]", item)[0] for item in wanted}
    text = (ROOT / "docs" / "design" / "0005-dependencies.md").read_text(encoding="utf-8")
    assert names == set(re.findall(r"^\| `([\w.-]+)` \|", text, flags=re.MULTILINE))


def test_exit_codes_in_the_docs_are_those_of_the_errors() -> None:
    from optimas_core.artifacts import LeaseHeld
    from optimas_core.errors import BudgetExhausted, Interrupted, OptimasError, UserError

    text = (ROOT / "docs" / "06-workspace-and-resume.md").read_text(encoding="utf-8")
    section = text.split("## Exit codes")[1].split("##")[0]
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", section, flags=re.MULTILINE)}
    kinds = (OptimasError, UserError, BudgetExhausted, LeaseHeld, Interrupted)
    assert listed == {0} | {kind.exit_code for kind in kinds}


# Pages whose tables name the test of each row, and the file of names without one.
TESTED_PAGES = {
    "06-workspace-and-resume.md": "tests/local/controller/test_crash_points.py",
    "09-errors.md": "tests/unit/cli/test_bad_input.py",
    "11-model-faults.md": "tests/local/models/test_model_fault_table.py",
}
NAMED_TEST = re.compile(r"`((?:tests/[\w/]+\.py)?(?:::)?(?:test_\w+)?)`")


@pytest.mark.parametrize("page", sorted(TESTED_PAGES))
def test_every_row_of_a_table_with_tests_names_tests_that_exist(page: str) -> None:
    """A file may be named as a whole; a name alone stands in the page's own file, or in the one its section names."""
    rows = rows_with_tests((ROOT / "docs" / page).read_text(encoding="utf-8"), TESTED_PAGES[page])
    assert len(rows) > 10
    missing = []
    for row, names in rows:
        missing += [row] if not names else []
        for file, name in names:
            known = _defined(ROOT / file) if (ROOT / file).is_file() else set()
            missing += [f"{file}::{name}"] if not known or (name and name not in known) else []
    assert not missing


def test_every_test_of_a_model_fault_has_its_row() -> None:
    file = TESTED_PAGES["11-model-faults.md"]
    rows = rows_with_tests((ROOT / "docs" / "11-model-faults.md").read_text(encoding="utf-8"), file)
    named = {name for _, names in rows for where, name in names if where == file}
    assert named == {name for name in _defined(ROOT / file) if name.startswith("test_")}


def rows_with_tests(text: str, page_file: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """(row, [(file, function or "")]) of every row below a header whose last column is `test`."""
    rows, file, inside = [], page_file, False
    for line in text.splitlines():
        if line.startswith("## "):
            file = page_file
        elif not line.startswith("|"):
            named = re.search(r"functions of\s+`(tests/[\w/]+\.py)`", line)
            file, inside = (named[1] if named else file), False
        elif line.endswith("| test |"):
            inside = True
        elif inside and not line.startswith("|---"):
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            found = [item.partition("::") for item in NAMED_TEST.findall(cells[-1])]
            rows.append((line, [(where, name) if where.endswith(".py") else (file, where) for where, _, name in found]))
    return rows
