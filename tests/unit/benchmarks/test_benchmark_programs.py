"""benchmarks/hotpotqa.py and benchmarks/alignment.py: arguments, data, tables, and fits played on a made-up matrix. No model."""

from __future__ import annotations

import gzip
import importlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optimas_core.errors import DataError, EnvironmentNotReady
from optimas_core.spec import load_run_settings

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
INCUMBENT = "incumbent"
TOWNS = ["Basel", "Breisach", "Strasbourg", "Speyer", "Mannheim", "Mainz", "Koblenz", "Cologne", "Wesel", "Arnhem"]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As when a program of that folder is started: its folder comes first."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delenv("OPTIMAS_DATA", raising=False)
    yield


def module(name: str) -> Any:
    return importlib.import_module(name)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [
        {
            "id": f"q{number}",
            "question": f"Which river crosses {TOWNS[number]}?",
            "answer": "the Rhine" if number % 2 else "yes",
            "context": {
                "title": [TOWNS[number], "Shared"],
                "sentences": [[f"{TOWNS[number]} lies on the Rhine.", " It is old. " + "x" * 900], ["Both have it."]],
            },
        }
        for number in range(10)
    ]
    with gzip.open(tmp_path / "hotpotqa_distractor.jsonl.gz", "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
    monkeypatch.setenv("OPTIMAS_DATA", str(tmp_path))
    return tmp_path


def matrix(examples: int = 20, *, stays: bool = False) -> Any:
    """Three candidates: "good" writes what is rewarded, "bad" what is not, the incumbent something between."""
    parts = module("_alignment.matrix")
    texts = {INCUMBENT: ("perhaps rain", 0.5), "good": ("clear answer", 1.0), "bad": ("long detour", 0.0)}
    cells = []
    for number in range(examples):
        made = {
            name: parts.Output({"answer": text}, 0.5 if stays else reward - (0.25 if name == "good" and number % 4 == 0 else 0.0))
            for name, (text, reward) in texts.items()
        }
        cells.append(parts.Cell(f"e{number}", {"question": f"number {number}"}, made, (made[INCUMBENT],)))
    return parts.Matrix("toy", "answerer", tuple(texts), {name: name for name in texts}, tuple(cells), 2, 1, 0)


class LengthModel:
    """A reward model that has "learned" to prefer short outputs."""

    def score(self, component: str, items: Any) -> Any:
        import numpy as np

        return np.asarray([-float(len(output["answer"])) for _, output in items])


def test_hotpotqa_without_data_is_one_sentence_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert module("hotpotqa").main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "OPTIMAS_DATA" in said.err and "Traceback" not in said.err and len(said.err.splitlines()) == 1


def test_hotpotqa_with_a_directory_without_the_file_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPTIMAS_DATA", str(tmp_path))
    assert module("hotpotqa").main([]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_data_file_names_the_variable() -> None:
    with pytest.raises(EnvironmentNotReady, match="OPTIMAS_DATA"):
        module("_systems.hotpotqa").data_file()


def test_paragraphs_are_read_once_each_and_passages_are_capped(data: Path) -> None:
    system = module("_systems.hotpotqa")
    documents = system.paragraphs(system.read_questions(system.data_file()))
    assert [item["title"] for item in documents] == [TOWNS[0], "Shared", *TOWNS[1:]]
    assert documents[0]["text"].startswith("Basel lies on the Rhine. It is old.")
    retriever = system.Retriever(documents)
    best = retriever("Which river crosses Cologne?", k=1)
    assert best[0].startswith("Cologne: ") and len(best[0]) == system.PASSAGE_CHARS
    many = retriever("Which river crosses Cologne?", k=10)
    assert len(many) == 10 and sum(map(len, many)) <= system.ALL_CHARS
    assert many[0] == best[0][:120]


def test_a_row_without_its_paragraphs_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "hotpotqa_distractor.jsonl.gz"
    with gzip.open(file, "wt", encoding="utf-8") as lines:
        lines.write(json.dumps({"id": "a", "question": "?", "answer": "b"}) + "\n")
    with pytest.raises(DataError, match="'a' has no column 'context'"):
        module("_systems.hotpotqa").read_questions(file)


def test_both_systems_have_the_components_of_the_paper(data: Path) -> None:
    system = module("_systems.hotpotqa")
    whole = system.build()
    assert set(whole.components) == {"rewriter", "extractor", "retriever", "hinter", "answerer"}
    assert whole.optimizable == tuple(whole.components)
    assert whole.components["retriever"].space["k"].values == (1, 5, 10, 25)
    assert whole.inputs == ("question",)
    assert system.build_short().optimizable == ("retriever", "answerer")


def test_the_written_run_yaml_is_a_valid_spec(data: Path, tmp_path: Path) -> None:
    import yaml

    program = module("hotpotqa")
    asked = program.parse(["--iterations", "3", "--seed", "7", "--system-runs", "90"])
    for quick in (False, True):
        spec = program.run_spec(data, iterations=asked.iterations, seed=asked.seed, system_runs=asked.system_runs, quick=quick)
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
        settings = load_run_settings(tmp_path / "run.yaml")
        assert (settings.seed, settings.data.split.seed, settings.schedule.iterations) == (7, 7, 3)
        assert settings.budget.system_runs == 90
        parts = settings.data.split
        assert quick or (parts.train, parts.validation, parts.test) == (24, 20, 16)


def test_hotpotqa_table_and_json_show_means_intervals_and_what_was_accepted(data: Path) -> None:
    program, system = module("hotpotqa"), module("_systems.hotpotqa")
    from optimas_core.system import split_examples

    split = split_examples(system.read_questions(system.data_file()), train=5, validation=3, test=2, seed=0)
    validation = {"incumbent_mean": 0.1, "challenger_mean": 0.25, "n": 3}
    first = {"iteration": 1, "component": "retriever", "knob": "k", "steered_by": "measured", "verdict": "accept", "validation": validation}
    report = {
        "seeds": {"run": 0},
        "baseline": {"mean": 0.08, "ci": [0.02, 0.2], "n": 2},
        "final": {"mean": 0.12, "ci": [0.04, 0.3], "n": 2},
        "difference": {"mean": 0.04, "ci": [-0.1, 0.2], "n": 2},
        "iterations": [first, {**first, "iteration": 2, "component": "hinter", "knob": "prompt", "verdict": "kept", "validation": None}],
        "spend": {"system_runs": 41.5, "tokens": 1234},
        "stop_reason": "all 2 iterations are done",
        "verdict": {"line": "a verdict"},
    }
    summary = program.summary(report, split, 3.0)
    assert json.loads(json.dumps(summary)) == summary
    assert summary["accepted"] == ["retriever.k"] and summary["validated"] == 1
    text = program.table(summary)
    assert "| 0.080 [0.020, 0.200] | 0.120 [0.040, 0.300] | 0.040 [-0.100, 0.200] |" in text
    assert "1: retriever.k, by measured rollouts, accept, validation mean of 3 | 0.100 | 0.250 | +0.150" in text
    assert "2: hinter.prompt, by measured rollouts, kept | not validated" in text
    assert "accepted changes: retriever.k" in text and "a verdict" in text


def test_the_constant_answer_is_the_most_frequent_of_the_training_split() -> None:
    from optimas_core.system import Example, Split

    def rows(*answers: str) -> tuple[Example, ...]:
        return tuple(Example(f"{index}-{answers}", {"answer": answer}) for index, answer in enumerate(answers))

    split = Split(rows("no", "yes", "yes"), rows("x"), rows("yes", "Rhine"))
    assert module("hotpotqa").constant_answer(split) == ("yes", 0.5)


def test_alignment_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    parse = module("alignment").parse
    plain = parse([])
    assert plain.systems == ("quickstart",) and plain.rungs == ("frozen",) and plain.losses == ("soft_gap", "bradley_terry")
    assert plain.seeds == 5 and not plain.orders
    monkeypatch.setenv("OPTIMAS_DATA", "/somewhere")
    assert parse([]).systems == ("quickstart", "hotpotqa")
    assert parse(["--rungs", "frozen,lora", "--fresh", "2,3"]).fresh == (2, 3)
    quick = parse(["--quick"])
    assert quick.seeds <= 2 and quick.examples <= 10
    for wrong in (["--rungs", "deep"], ["--losses", ""], ["--fresh", "0"], ["--systems", "other"]):
        with pytest.raises(SystemExit) as stopped:
            parse(wrong)
        assert stopped.value.code == 2


def test_demonstrations_come_from_examples_that_nothing_is_judged_on() -> None:
    from optimas_core.system import Example

    examples = [Example(str(number), {}) for number in range(95)]
    measured, shown = module("alignment").divide(examples, 56)
    assert len(measured) == 56 and len(shown) == 23
    assert not {item.id for item in measured} & {item.id for item in shown}
    assert module("alignment").divide(examples[::-1], 56) == (measured, shown)
    with pytest.raises(DataError, match="too few"):
        module("alignment").divide(examples[:10], 56)


def test_a_record_becomes_a_cell_only_if_every_candidate_was_measured() -> None:
    from optimas_core.preferences import InputRecord, ScoredCandidate

    cell_of = module("_alignment.matrix").cell_of
    both = ScoredCandidate((INCUMBENT, "sample:1", "edits:1"), {"answer": "a"}, (1.0,))
    other = ScoredCandidate(("edits:2",), {"answer": "b"}, (0.0,))
    record = InputRecord("e", {"question": "?"}, (both, other), (), ())
    cell = cell_of(record, (INCUMBENT, "edits:1", "edits:2"))
    assert {name: output.reward for name, output in cell.outputs.items()} == {INCUMBENT: 1.0, "edits:1": 1.0, "edits:2": 0.0}
    assert [output.fields for output in cell.sampled] == [{"answer": "a"}]  # a proposal's output is no sample of the incumbent
    missing = ScoredCandidate(("edits:2",), {"answer": "b"}, ())
    assert cell_of(InputRecord("e", {}, (both, missing), (), ()), (INCUMBENT, "edits:2")) is None


def test_pairs_are_of_distinct_outputs_with_different_rewards_and_capped() -> None:
    fits, toy = module("_alignment.fits"), matrix()
    pairs = fits.pairs_of("answerer", toy.cells, lambda cell: list(cell.outputs.values()) * 2, most=1000, seed=0)
    assert len(pairs) == 3 * len(toy.cells)
    assert all(pair.reward_chosen > pair.reward_rejected for pair in pairs)
    few = fits.pairs_of("answerer", toy.cells, lambda cell: list(cell.outputs.values()), most=7, seed=0)
    assert len(few) == 7 and few == fits.pairs_of("answerer", toy.cells, lambda cell: list(cell.outputs.values()), most=7, seed=0)


def test_the_incumbent_is_never_left_out() -> None:
    left_out = module("_alignment.fits").left_out
    names = (INCUMBENT, *"abcdef")
    drawn = [left_out(names, seed) for seed in range(20)]
    assert all(len(item) == 2 and INCUMBENT not in item for item in drawn)
    assert len(set(drawn)) > 1


def test_judging_counts_pairs_with_a_left_out_candidate_only_and_decides_over_all() -> None:
    fits, toy = module("_alignment.fits"), matrix(8)
    right = {name: {cell.example_id: cell.outputs[name].reward for cell in toy.cells} for name in toy.candidates}
    score = fits.judge(toy, toy.cells, right, frozenset(), 0)
    assert (score.accuracy, score.spearman, score.regret, score.pairs) == (1.0, pytest.approx(1.0), 0.0, 24)
    assert fits.judge(toy, toy.cells, right, frozenset({"bad"}), 0).pairs == 16
    wrong = {name: {key: -value for key, value in rewards.items()} for name, rewards in right.items()}
    assert fits.judge(toy, toy.cells, wrong, frozenset(), 0).regret == 1.0


def test_equally_good_candidates_give_no_regret_and_the_row_says_so() -> None:
    fits, tables, toy = module("_alignment.fits"), module("_alignment.tables"), matrix(8, stays=True)
    rows = list(fits.compare(toy, [], 3, 100))
    assert all(score.regret is None and score.accuracy is None for row in rows for score in row.scores)
    assert "equally good" in tables.verdict(rows[0], rows[0], rows[0])


def test_an_alignment_row_says_whether_the_lrf_wins() -> None:
    fits, tables = module("_alignment.fits"), module("_alignment.tables")

    def row(rung: str, loss: str, *regrets: float) -> Any:
        scores = tuple(fits.Score(seed, 0.8, 0.5, regret, 10, 5) for seed, regret in enumerate(regrets))
        return fits.Row("toy", "answerer", rung, loss, "seen", scores)

    measured, chance = row(fits.MEASURED, "", 0.2, 0.21, 0.2), row(fits.RANDOM, "", 0.5, 0.5, 0.5)
    lines = tables.alignment_lines(
        [chance, measured, row("frozen", "soft_gap", 0.0, 0.01, 0.0), row("frozen", "bradley_terry", 0.6, 0.62, 0.61)]
    )
    assert "WINS: 0.20 less" in lines[2] and "NOT" not in lines[2]
    assert "DOES NOT WIN: 0.41 more regret" in lines[3] and "no better than random choice" in lines[3]
    assert "DOES NOT WIN: no difference" in tables.verdict(row("frozen", "soft_gap", 0.1, 0.3, 0.2), measured, chance)
    assert "| 0.80 ± 0.00 | 0.50 ± 0.00 | 0.00 ± 0.01 |" in lines[2]
    assert len({line.count("|") for line in [*lines, tables.ALIGNMENT_HEAD]}) == 1


def test_racing_finds_the_best_candidate_and_never_spends_more_than_it_may() -> None:
    orders, toy = module("_alignment.orders"), matrix()
    for runs in (2.0, 10.0, 30.0, 1000.0):
        chosen, spent = orders.race(toy, toy.cells, runs)
        assert spent <= runs + 1e-9
        assert runs < 3 or chosen == "good"
    assert orders.race(toy, toy.cells, 0.0) == (INCUMBENT, 0.0)


def test_the_incumbent_wins_ties() -> None:
    assert module("_alignment.orders").best_of({"a": 1.0, INCUMBENT: 1.0}) == INCUMBENT
    assert module("_alignment.orders").best_of({"b": 1.0, "a": 1.0, INCUMBENT: 0.0}) == "a"


def test_the_arms_are_compared_at_equal_system_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from optimas_core.spec import LrfSettings

    orders = module("_alignment.orders")

    class Fitted:
        def __init__(self, components: Any) -> None:
            pass

        def fitted(self, settings: Any, pairs: Any, seed: int) -> LengthModel:
            return LengthModel()

    monkeypatch.setattr(orders, "Models", Fitted)
    found = list(orders.play(matrix(30), LrfSettings(rung="frozen"), fresh=(4, 8), search=6, repetitions=5, most_pairs=50))
    assert [[row.arm for row in rows] for rows in found] == [list(orders.ARMS)] * 2
    for rows in found:
        first, paper, racing = rows
        assert paper.system_runs <= first.system_runs + 1e-9 and racing.system_runs <= first.system_runs + 1e-9
        assert racing.reward == first.best  # "good" is the best everywhere
        assert first.reward < racing.reward  # the model of this test prefers "bad": the shortest text
        mean, _ = first.difference(racing)
        assert math.isclose(mean, first.reward - racing.reward)
    lines = module("_alignment.tables").order_lines(found[0])
    assert "DOES NOT WIN: racing reaches more" in lines[0] and lines[2].endswith("|  |  |")
    assert len({line.count("|") for line in [*lines, module("_alignment.tables").ORDERS_HEAD]}) == 1
    assert "proposals first wins 0, loses 2" in module("_alignment.tables").closing([row for rows in found for row in rows])


def test_the_json_document_holds_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    fits, program, toy = module("_alignment.fits"), module("alignment"), matrix(10)
    rows = list(fits.compare(toy, [], 2, 100))
    document = program.as_document([toy], rows, [], 1.0)
    assert json.loads(json.dumps(document)) == document
    assert [item["rung"] for item in document["alignment"]] == [fits.RANDOM, fits.MEASURED] * 2
    assert document["candidates"][0]["means"]["bad"] == 0.0


def test_the_programs_leave_sys_path_as_it_was() -> None:
    before = list(sys.path)
    module("alignment"), module("hotpotqa")
    assert sys.path == before
