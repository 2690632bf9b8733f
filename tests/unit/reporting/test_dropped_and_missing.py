"""What the leak guard dropped and what the sealed test lacks, as the report shows it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from optimas_core.reporting._html import render_html
from optimas_core.reporting._markdown import render_markdown
from optimas_core.reporting._notes import notes_of
from optimas_core.reporting._tables import iterations_table, proposals_table
from optimas_core.reporting._verdict_line import verdict_line
from optimas_core.spec import RunSettings

EXAMPLE = json.loads((Path(__file__).parents[2] / "fixtures/report/example.json").read_text(encoding="utf-8"))
SETTINGS = RunSettings.model_validate({"system": "a:b", "data": {"source": "x.jsonl"}})
DATA = {"train": 10, "validation": 10, "test": 16}
REASON = "the instruction copies the answer of training example '<b>e1</b>'"


@pytest.fixture
def report() -> dict[str, Any]:
    found: dict[str, Any] = copy.deepcopy(EXAMPLE)
    found["iterations"][0]["dropped"] = [{"label": "opro:0011", "proposer": "opro", "summary": "written by a model", "reason": REASON}]
    return {**found, "leaks_caught": 1, "drift": None, "sealed_test": {"items": 16, "missing": 0, "max_missing": 0.2}}


def test_a_dropped_proposal_stands_in_the_tables_with_its_reason_and_without_figures(report: dict[str, Any]) -> None:
    row = report["iterations"][0]
    table = proposals_table(row)
    assert table.rows[:-1] == proposals_table({**row, "dropped": []}).rows
    assert table.rows[-1][:3] == ("opro:0011", "opro", "written by a model") and table.rows[-1][-1] == f"dropped: {REASON}"
    assert table.rows[-1][3] == "not reported"
    assert iterations_table(report).rows[0][2].endswith(", 1 dropped") and "dropped" not in iterations_table(report).rows[1][2]
    page = render_html(report)
    assert "dropped: the instruction copies" in page and "<b>e1" not in page
    assert "dropped" in render_markdown(report)


def test_the_notes_count_what_was_dropped_and_what_is_missing(report: dict[str, Any]) -> None:
    def notes(**changes: Any) -> str:
        return " ".join(notes_of({**report, **changes}, SETTINGS, DATA, []))

    assert "dropped 1 proposal that copied" in notes() and "dropped 3 proposals that copied" in notes(leaks_caught=3)
    assert "dropped" not in notes(leaks_caught=0) and "Sealed test:" not in notes()
    some = {"items": 16, "missing": 2, "max_missing": 0.2}
    assert "2 of 16 items have no score" in notes(sealed_test=some) and "too much" not in notes(sealed_test=some)
    indecisive = notes(sealed_test={**some, "missing": 8}, verdict={"kind": "indecisive"})
    assert "8 of 16 items" in indecisive and "under another `name`" in indecisive


def test_an_indecisive_verdict_names_what_is_missing_and_no_scores(report: dict[str, Any]) -> None:
    report |= {"verdict": {"kind": "indecisive", "line": ""}, "sealed_test": {"items": 16, "missing": 8, "max_missing": 0.2}}
    line = verdict_line(report)
    assert line.startswith("Indecisive: 8 of 16 items of the sealed test are missing, incumbent ") and "->" not in line
    assert "of the sealed test&#39;s items lack a score" in render_html(report) and "Indecisive" in render_markdown(report)
