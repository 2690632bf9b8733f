"""The verdict in one line for a terminal, and its parts for the top of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optimas_core.reporting._numbers import count, includes_zero, interval, percent, score, signed, usd
from optimas_core.reporting._shown_text import label

VERDICTS = {
    "improved": "Improved",
    "no_change": "No change",
    "not_significant": "No significant change",
    "worse": "Worse",
    "indecisive": "Indecisive",
    "unfinished": "Unfinished",
    "unmoved": "Nothing moved",
}


def verdict_line(report: Mapping[str, Any]) -> str:
    """One ASCII line (but for names): verdict, scores on the sealed test, interval and n, system runs, USD.

    Example: `Improved: token F1 .11 -> .38 on the sealed test (+.27, 95 % interval +.17 to +.37, n = 80), 412 system
    runs, USD 0.00 (local models)`.
    """
    spend = report["spend"]
    runs = f"{count(spend['system_runs'])} system runs"
    return f"{VERDICTS[report['verdict']['kind']]}: {result_words(report)}, {runs}, {money_words(report)}"


def result_words(report: Mapping[str, Any]) -> str:
    """What was measured, without the verdict's name and without the cost."""
    baseline, final, metric = report["baseline"], report["final"], label(report["metric"]["name"])
    kind = report["verdict"]["kind"]
    if kind == "unmoved":
        return f"{drift_words(report)}, not optimized again"
    if kind == "indecisive":
        test = report["sealed_test"]
        return f"{count(test['missing'])} of {count(test['items'])} items of the sealed test are missing{validation_words(report)}"
    if final["mean"] is None or baseline["mean"] is None:
        so_far = validation_words(report)
        where = f"after {_iterations(len(report['iterations']))}"
        if kind == "unfinished":
            why = f" ({label(report['stop_reason'], 80)})" if report.get("stop_reason") else ""
            return f"{report['status']} {where}{why}, the sealed test has not been read{so_far}"
        return f"{metric} on the sealed test not reported, {where}{so_far}"
    if kind == "no_change":
        n = f"n = {count(baseline['n'])}"
        same = f"{metric} {score(baseline['mean'])} on the sealed test"
        return f"no proposal was accepted, {same} (interval {interval(baseline['ci'])}, {n})"
    change = f"{metric} {score(baseline['mean'])} -> {score(final['mean'])} on the sealed test"
    return f"{change} ({difference_words(report)})"


def drift_words(report: Mapping[str, Any]) -> str:
    """The promoted configuration's validation score when it was recorded and now, with the interval of the difference."""
    found, now = report["drift"]["score"], report["drift"]["now"]
    if found is None:
        metric = label(report["metric"]["name"])
        return f"{metric} {score(now['mean'])} (n = {count(now['n'])}), which later checks compare with, as there was nothing before"
    bounds = f"95 % interval {interval(found['ci'], differences=True)}, n = {count(found['n'])}"
    scores = f"{label(report['metric']['name'])} {score(found['then'])} then, {score(found['now'])} now"
    return f"{scores} ({signed(found['difference'])}, {bounds})"


def difference_words(report: Mapping[str, Any]) -> str:
    """`+.27, 95 % interval +.17 to +.37, n = 80`; says so when the interval includes 0."""
    difference = report["difference"]
    if difference["mean"] is None:
        return "difference not reported"
    bounds = f"{percent(difference['confidence'])} interval {interval(difference['ci'], differences=True)}"
    zero = " includes 0" if includes_zero(difference["ci"]) else ""
    return f"{signed(difference['mean'])}, {bounds}{zero}, n = {count(difference['n'])}"


def money_words(report: Mapping[str, Any]) -> str:
    """`USD 1.20`, `USD not reported`, or a lower bound where some calls have no known price."""
    spend = report["spend"]
    unknown = spend["usd_unknown_calls"]
    if spend["usd"] is None:
        return usd(None)
    if unknown:
        return f"at least {usd(spend['usd'])} ({count(unknown)} calls of unknown price)"
    models = {str(row["model"]) for row in report["ledger"] if row["calls"] and row["model"]}
    local = spend["usd"] == 0 and models and all(model.startswith("local/") for model in models)
    return usd(spend["usd"]) + (" (local models)" if local else "")


def validation_words(report: Mapping[str, Any]) -> str:
    """The incumbent's latest validation mean, named as validation: it is not the sealed test."""
    known = [point for point in report["learning_curve"] if point["mean"] is not None]
    if not known:
        return ""
    return f", incumbent {score(known[-1]['mean'])} on validation (started at {score(known[0]['mean'])})"


def _iterations(number: int) -> str:
    return f"{number} iteration" + ("" if number == 1 else "s")
