"""Preference data of many examples is collected and written part by part: the same bytes, and never all rows in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from optimas_core.preferences import Collected
from optimas_core.stages import PreferenceRequest, StageContext, generate_preferences, load_project, open_run
from optimas_core.stages import _generate_preferences as stage
from optimas_core.stages._preference_tables import PAIRS_FILE, ROLLOUTS_FILE, SUMMARY_FILE, PreferenceTables


def collected_under(context: StageContext, count: int) -> dict[str, bytes]:
    start = context.run.put_configuration(context.system.configuration.to_json())
    # Not in the order of their ids: the tables are, whatever was asked for.
    examples = tuple(example.id for example in context.split.train[:count])[::-1]
    name = asyncio.run(generate_preferences(context, PreferenceRequest(0, ("lookup", "answerer"), start, examples)))
    artifact = context.required("preferences", name)
    return {file: artifact.read(file) for file in (PAIRS_FILE, ROLLOUTS_FILE, SUMMARY_FILE)}


def test_parts_change_no_byte_and_hold_few_examples(scripted_project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = open_run(load_project(scripted_project("whole", name="r")))
    whole = collected_under(at_once, 11)

    sizes: list[int] = []
    add = PreferenceTables.add

    def noted(self: PreferenceTables, data: Collected) -> None:
        sizes.append(len(data.inputs))
        add(self, data)

    monkeypatch.setattr(stage, "_PART_EXAMPLES", 4)
    monkeypatch.setattr(PreferenceTables, "add", noted)
    context = open_run(load_project(scripted_project("parts", name="r")))
    context.created_at = at_once.created_at  # two runs began at two moments
    parts = collected_under(context, 11)
    assert sizes == [4, 4, 3, 4, 4, 3]
    assert parts == whole
