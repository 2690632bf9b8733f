"""run.yaml: what is right is read, what is wrong is one sentence with file, key and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from optimas_core.canonical import canonical_json
from optimas_core.errors import SpecError
from optimas_core.spec import (
    PairedSequentialAcceptance,
    RunSettings,
    StrictAcceptance,
    UniformSelection,
    freeze,
    load_run_settings,
)

GOOD: dict[str, Any] = {"system": "app:build", "data": {"source": "rows.jsonl"}}


def load(tmp_path: Path, text: str) -> RunSettings:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return load_run_settings(path)


def refused(data: dict[str, Any]) -> SpecError:
    with pytest.raises(SpecError) as caught:
        freeze(data, where="run.yaml")
    return caught.value


def test_two_keys_are_enough_and_the_defaults_are_the_papers(tmp_path: Path) -> None:
    found = load(tmp_path, yaml.safe_dump(GOOD))
    assert (found.system, found.data.source, found.workspace, found.seed) == (
        "app:build",
        "rows.jsonl",
        "./workspace",
        0,
    )
    assert (found.optimizers.candidates, found.optimizers.search_inputs, found.optimizers.fresh_inputs) == (3, 50, 20)
    assert (found.preferences.examples, found.lrf.lora_rank, found.lrf.lora_alpha) == (50, 32, 16)
    assert found.lrf.loss == "soft_gap" and found.optimizers.order == "proposals_first"
    assert found.acceptance == PairedSequentialAcceptance() and found.acceptance.alpha == 0.05
    assert found.schedule.selection == UniformSelection()
    assert (found.budget.usd, found.budget.tokens, found.budget.system_runs, found.budget.hours) == (None,) * 4


def test_sections_are_read_by_their_kind() -> None:
    found = freeze(
        {
            **GOOD,
            "acceptance": {"kind": "strict", "items": 10},
            "prices": {"m": {"usd_per_million_in": 1, "usd_per_million_out": 2}},
        },
        where="x",
    )
    assert found.acceptance == StrictAcceptance(items=10)
    assert found.prices["m"].usd_per_million_out == 2.0


def test_what_is_read_is_frozen_and_has_canonical_json() -> None:
    found = freeze(GOOD, where="x")
    with pytest.raises(ValidationError):
        found.seed = 1  # type: ignore[misc]
    plain = found.model_dump(mode="json")
    assert freeze(plain, where="x") == found and canonical_json(plain)


@pytest.mark.parametrize(
    ("extra", "key", "remedy"),
    [
        ({"sede": 1}, "'sede'", "'seed'"),
        ({"budget": {"uds": 1}}, "'budget.uds'", "'usd'"),
        ({"lrf": {"beta_": 1}}, "'lrf.beta_'", "'beta'"),
        ({"data": {"source": "x", "split": {"vaildation": 0.2}}}, "'data.split.vaildation'", "'validation'"),
        ({"schedule": {"selection": {"kind": "gain", "explore": 1}}}, "'schedule.selection.explore'", "'exploration'"),
        ({"acceptance": {"kind": "strict", "item": 1}}, "'acceptance.item'", "'items'"),
        (
            {"prices": {"m": {"usd_per_million_in": 1, "usd_per_million_out": 1, "xyz": 1}}},
            "'prices.m.xyz'",
            "usd_per_million_in",
        ),
        ({"zzz": 1}, "'zzz'", "Known keys there:"),
    ],
)
def test_unknown_keys_are_named_with_a_suggestion(extra: dict[str, Any], key: str, remedy: str) -> None:
    error = refused({**GOOD, **extra})
    assert "unknown key" in error.message and key in error.message and "run.yaml" in error.message
    assert remedy in error.remedy
    assert (error.code, error.exit_code) == ("spec", 2)


@pytest.mark.parametrize(
    ("extra", "key"),
    [
        ({"concurrency": "many"}, "concurrency"),
        ({"concurrency": 0}, "concurrency"),
        ({"budget": 5}, "budget"),
        ({"budget": {"usd": -1}}, "budget.usd"),
        ({"budget": {"usd": float("inf")}}, "budget.usd"),
        ({"budget": {"tokens": 1.5}}, "budget.tokens"),
        ({"schedule": {"target": float("nan")}}, "schedule.target"),
        ({"lrf": {"rung": "full"}}, "lrf.rung"),
        ({"optimizers": {"proposers": ["magic"]}}, "optimizers.proposers.0"),
        ({"acceptance": {"kind": "hope"}}, "acceptance"),
        ({"data": {"split": {"train": -0.5}}}, "data.split.train"),
        ({"prices": {"m": {"usd_per_million_in": -1, "usd_per_million_out": 1}}}, "prices.m.usd_per_million_in"),
        ({"data": None}, "data"),
    ],
)
def test_a_wrong_value_names_its_key(extra: dict[str, Any], key: str) -> None:
    assert repr(key) in refused({**GOOD, **extra}).message


@pytest.mark.parametrize("key", ["system", "data"])
def test_a_missing_key_is_named(key: str) -> None:
    error = refused({name: value for name, value in GOOD.items() if name != key})
    assert f"key {key!r} is missing" in error.message and error.remedy


def test_bad_yaml_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"run\.yaml line 3 is not valid YAML"):
        load(tmp_path, "system: a\ndata:\n  source: a: b\n")
    with pytest.raises(SpecError, match="line 2"):
        load(tmp_path, "system: a\n\tdata: b\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a\n- b",
        "just text",
        "42",
        "a: !!bool x",
        "a: !!int x",
        "a: !!timestamp x",
        "a: 2024-13-45",
        "? [a]\n: b",
        "[" * 5000,
    ],
)
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SpecError):
        load(tmp_path, text)


def test_absent_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="does not exist") as caught:
        load_run_settings(tmp_path / "run.yaml")
    assert "optimas init" in caught.value.remedy
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(SpecError, match="cannot be read"):
        load_run_settings(tmp_path / "run.yaml")
    with pytest.raises(SpecError):
        load_run_settings(tmp_path)


texts = st.text(max_size=80) | st.text(alphabet="{}[]:,-!&*?|>'\"%@`#\n \tab01.~=<", max_size=60)


@settings(max_examples=150, deadline=None)
@given(texts)
def test_no_text_raises_anything_but_a_spec_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(SpecError):
        load_run_settings(path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(RunSettings.model_fields)), values, max_size=6))
def test_no_data_raises_anything_but_a_spec_error(data: dict[str, Any]) -> None:
    try:
        found = freeze({**GOOD, **data}, where="x")
    except SpecError as error:
        assert "\n" not in error.message or "\n" in str(data)
        return
    assert canonical_json(found.model_dump(mode="json"))


def test_every_section_refuses_unknown_keys_and_changes() -> None:
    sections = [
        value
        for value in vars(__import__("optimas_core.spec", fromlist=["x"])).values()
        if isinstance(value, type) and issubclass(value, BaseModel)
    ]
    assert len(sections) >= 14
    for section in sections:
        assert section.model_config["extra"] == "forbid" and section.model_config["frozen"], section
