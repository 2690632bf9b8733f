"""Figures as words, and the one line a terminal ends with."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from optimas_core.reporting import _numbers as numbers
from optimas_core.reporting._summary_words import below_reference, meaning
from optimas_core.reporting._verdict_line import verdict_line

EXAMPLE = json.loads((Path(__file__).parents[2] / "fixtures/report/example.json").read_text(encoding="utf-8"))


@pytest.fixture
def report() -> dict[str, Any]:
    return copy.deepcopy(EXAMPLE)


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.381, ".38"), (1.0, "1.00"), (0.999, "1.00"), (-0.034, "-.03"), (-0.001, ".00"), (12.3456, "12.35"), (None, "not reported"),
     (float("nan"), "not reported"), (1.5, "1.50"), (-0.999, "-1.00"), (10.05, "10.05")],
)  # fmt: skip
def test_score_words(value: float | None, words: str) -> None:
    assert numbers.score(value) == words


@pytest.mark.parametrize(("value", "words"), [(0.27, "+.27"), (-0.03, "-.03"), (0.0, ".00"), (0.001, ".00"), (None, "not reported")])
def test_signed_words(value: float | None, words: str) -> None:
    assert numbers.signed(value) == words


def test_an_unknown_price_is_not_reported_and_never_zero() -> None:
    assert numbers.usd(None) == "USD not reported"
    assert numbers.usd(0.0) == "USD 0.00"
    assert numbers.usd(0.004) == "USD 0.004"
    assert numbers.usd(0.00000001) == "USD <0.0001"


def test_verdict_line_of_an_improvement(report: dict[str, Any]) -> None:
    assert verdict_line(report) == (
        "Improved: token F1 .11 -> .38 on the sealed test (+.27, 95 % interval +.17 to +.37, n = 80), "
        "467 system runs, USD 0.00 (local models)"
    )


def test_an_interval_with_zero_is_named(report: dict[str, Any]) -> None:
    report["verdict"]["kind"] = "not_significant"
    report["difference"] |= {"mean": 0.02, "ci": [-0.03, 0.07]}
    line = verdict_line(report)
    assert line.startswith("No significant change: ")
    assert "(+.02, 95 % interval -.03 to +.07 includes 0, n = 80)" in line
    assert "includes 0" in meaning(report)


def test_the_meaning_never_contradicts_the_interval(report: dict[str, Any]) -> None:
    """Even a verdict that says improved cannot hide an interval that includes 0."""
    report["difference"]["ci"] = [-0.01, 0.37]
    assert "does not show a change" in meaning(report)
    report["difference"]["ci"] = None
    assert "cannot be ruled out" in meaning(report)
    report["difference"] |= {"mean": -0.2, "ci": [-0.3, -0.1]}
    assert "below 0" in meaning(report)


def test_unknown_and_partly_unknown_money(report: dict[str, Any]) -> None:
    report["spend"] |= {"usd": None, "usd_unknown_calls": 3}
    assert verdict_line(report).endswith("USD not reported")
    report["spend"] |= {"usd": 1.25}
    assert verdict_line(report).endswith("at least USD 1.25 (3 calls of unknown price)")


def test_free_is_called_local_only_when_every_model_is(report: dict[str, Any]) -> None:
    report["ledger"][0]["model"] = "somewhere/free-model"
    assert verdict_line(report).endswith("USD 0.00")


def test_an_unfinished_run_has_no_sealed_test(report: dict[str, Any]) -> None:
    none = {"mean": None, "ci": None, "n": 0}
    report |= {"status": "stopped", "stop_reason": "budget: usd", "baseline": none, "final": none}
    report["verdict"]["kind"], report["difference"] = "unfinished", {**none, "confidence": 0.95}
    line = verdict_line(report)
    assert line.startswith("Unfinished: stopped after 6 iterations (budget: usd), the sealed test has not been read")
    assert "incumbent .44 on validation (started at .14)" in line


def test_no_change_names_one_score(report: dict[str, Any]) -> None:
    report["verdict"]["kind"], report["final"] = "no_change", report["baseline"]
    assert "no proposal was accepted, token F1 .11 on the sealed test (interval .07 to .16, n = 80)" in verdict_line(report)


def test_a_score_at_or_below_majority_is_pointed_out(report: dict[str, Any]) -> None:
    assert below_reference(report) is None
    report["majority"] = 0.552
    assert below_reference(report) == "Mind: the final score .38 is not above majority (.55)."
