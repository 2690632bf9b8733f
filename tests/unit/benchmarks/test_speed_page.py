"""docs/12-speed.md is what benchmarks/results says, and the programs that make both are told apart from their failures."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield


def module(name: str) -> Any:
    return importlib.import_module(name)


def test_the_page_is_made_of_the_records() -> None:
    page = module("_speed.page")
    assert page.PAGE.read_text(encoding="utf-8") == page.render(page.RESULTS), "make it anew: PYTHONPATH=benchmarks python -m _speed.page"


def test_every_speed_figure_of_the_records_has_its_verdict_from_its_own_numbers() -> None:
    page = module("_speed.page")
    kept = page.records(page.RESULTS)
    assert set(page.SPEED) <= set(kept)
    for name in page.SPEED:
        figures = page.figures_of(kept[name])
        assert figures, name
        assert [figure.met for figure in figures] == [item["met"] for item in kept[name]["found"]["figures"]], name
        assert "--quick" not in kept[name]["arguments"], f"{name} was recorded in its quick mode"


def test_what_missed_its_target_says_what_holds_it_and_no_remark_is_left_over() -> None:
    page, remarks = module("_speed.page"), module("_speed.remarks").REMARKS
    kept = page.records(page.RESULTS)
    figures = {f"{name}.{figure.key}": figure for name in page.SPEED for figure in page.figures_of(kept[name])}
    assert set(remarks) <= set(figures)
    assert not [key for key, figure in figures.items() if figure.met is False and key not in remarks]


def test_records_name_no_machine_and_no_path() -> None:
    page = module("_speed.page")
    for path in page.RESULTS.glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        assert set(record["machine"]) == {"cpu", "cores", "memory_gb", "system"}
        assert "/home/" not in path.read_text(encoding="utf-8") and "/tmp/" not in path.read_text(encoding="utf-8"), path.name


def test_a_changed_record_changes_the_page(tmp_path: Path) -> None:
    page = module("_speed.page")
    shutil.copytree(page.RESULTS, tmp_path / "results")
    file = tmp_path / "results" / "startup.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    record["found"]["figures"][0]["value"] = 12.5
    file.write_text(json.dumps(record), encoding="utf-8")
    changed = page.render(tmp_path / "results")
    assert "| 12.5 s | **missed** |" in changed and changed != page.render(page.RESULTS)
    file.unlink()
    assert "No record yet: startup." in page.render(tmp_path / "results")


PROGRAM = """
import argparse, json
parser = argparse.ArgumentParser()
parser.add_argument("--quick", action="store_true")
parser.add_argument("--json", action="store_true")
print(json.dumps([{"quick": parser.parse_args().quick}]))
"""


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The runner, over programs of the test's own."""
    program = module("_speed.record")
    (tmp_path / "fine.py").write_text(PROGRAM)
    (tmp_path / "broken.py").write_text("print('[]')\nraise SystemExit(3)\n")
    (tmp_path / "hotpotqa.py").write_text("raise SystemExit('its data were not named')\n")
    monkeypatch.setattr(program, "BENCHMARKS", tmp_path)
    monkeypatch.delenv("OPTIMAS_DATA", raising=False)
    return program


def test_a_program_that_fails_keeps_its_old_record_and_the_others_run(
    record: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "into"
    into.mkdir()
    (into / "broken.json").write_text("as it was")
    assert record.main(["--into", str(into), "--quick"]) == 1
    said = capsys.readouterr().err
    assert "failed: broken" in said and "hotpotqa: left out, OPTIMAS_DATA is not set" in said
    assert (into / "broken.json").read_text() == "as it was" and not (into / "hotpotqa.json").exists()
    kept = json.loads((into / "fine.json").read_text())
    assert (kept["found"], kept["arguments"], kept["program"]) == ([{"quick": True}], ["--quick"], "fine")
    assert kept["versions"]["python"] and kept["machine"]["cores"]


def test_quick_records_are_never_the_committed_ones(record: Any, tmp_path: Path) -> None:
    for wrong in (["--quick"], ["no-such-program"]):
        with pytest.raises(SystemExit) as stopped:
            record.main(wrong)
        assert stopped.value.code == 2
    assert record.main(["fine", "--into", str(tmp_path / "some")]) == 0
    assert [path.name for path in (tmp_path / "some").iterdir()] == ["fine.json"]


def test_a_figure_knows_whether_its_target_is_met() -> None:
    figure = module("_speed.table").Figure
    assert [figure("k", "n", value, 3.0, "higher").met for value in (2.9, 3.0, None)] == [False, True, None]
    assert [figure("k", "n", value, 0.3, "lower").met for value in (0.3, 0.31)] == [True, False]
    assert figure("k", "n", None, 3.0, "higher", why="no peer").line() == "n: not measured (no peer); target at least 3"
    assert figure("k", "n", 0.05, 0.3, "lower", " s").line() == "n: 0.05 s; target at most 0.3 s: met"


def test_spans_are_united_and_what_they_leave_out_is_found() -> None:
    overhead = module("overhead")
    spans = [(1.0, 3.0), (2.0, 4.0), (6.0, 7.0)]
    assert overhead.union_s(spans) == 4.0
    assert overhead.gaps(spans, 0.0, 8.0) == [(0.0, 1.0), (4.0, 6.0), (7.0, 8.0)]
    named = [("model call", 1.0, 5.0), ("batch", 2.0, 4.0), ("training", 6.0, 7.0)]
    rows = {row["what"]: row for row in overhead.rows_of(named, 0.0, 8.0)}
    assert rows["outside, all"]["seconds"] == 3.0 and rows["outside, by batches"]["seconds"] == 5.0
    assert rows["outside, all"]["share"] == 3 / 8 and rows["outside: between"]["seconds"] == 1.0


def test_equal_accuracy_is_read_off_the_plain_procedures_curve() -> None:
    labels = module("preference_labels")
    curve = [(1, labels.Labels(100, 60, 120.0)), (3, labels.Labels(100, 80, 320.0))]
    n, runs = labels.equally_accurate(curve, 0.7)
    assert (round(n, 9), round(runs, 9)) == (2.0, 3.0)  # halfway between 2 and 4 runs a correct pair
    assert labels.equally_accurate(curve, 0.9) is None


def test_a_simulated_output_has_the_true_reward_that_its_rollouts_tend_to() -> None:
    import asyncio

    simulated = module("_speed.simulated")
    built, rows = simulated.system(), simulated.examples(1)
    output = {"query": f"style3|{rows[0].fields['question']}"}
    (found,) = asyncio.run(simulated.plain(built, rows, [[output]], 400))
    mean = sum(found.rewards[0]) / 400
    assert abs(mean - simulated.true_reward(output)) < 0.1  # four standard errors
    assert found.runs_a_rollout == pytest.approx(4 / 5)  # everything but the rewriter, each time
