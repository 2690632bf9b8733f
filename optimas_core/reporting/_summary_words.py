"""Sentences for the top of the report: what the verdict means, in words that claim no more than was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optimas_core.reporting._numbers import NOT_REPORTED, includes_zero, score
from optimas_core.reporting._shown_text import label
from optimas_core.reporting._text_diff import diff_configurations


def meaning(report: Mapping[str, Any]) -> str:
    """One or two sentences for a reader who knows no statistics."""
    difference = report["difference"]
    match report["verdict"]["kind"]:
        case "unfinished":
            reason = report.get("stop_reason")
            ended = f" It ended because: {label(reason, 200)}." if reason else ""
            return f"The run is {report['status']}.{ended} The sealed test is read once, at the end of a run."
        case "unmoved":
            return f"The configuration of run {label(report['drift']['run'])} still does what it did, so nothing was changed."
        case "no_change":
            return "No proposal passed the acceptance test, so the final configuration is the one the run started with."
        case "indecisive":
            share = f"{100 * report['sealed_test']['max_missing']:.4g} %"
            return f"More than {share} of the sealed test's items lack a score, so it says nothing about the change."
        case _ if difference["mean"] is None:
            return f"The difference on the sealed test is {NOT_REPORTED}."
        case _ if difference["ci"] is None:
            return "No interval is reported for the difference, so chance cannot be ruled out."
        case _ if includes_zero(difference["ci"]):
            return "The interval of the difference includes 0: the sealed test does not show a change in either direction."
        case _:
            side = "above" if difference["mean"] > 0 else "below"
            return f"The whole interval of the difference lies {side} 0: chance alone is an unlikely explanation."


def below_reference(report: Mapping[str, Any]) -> str | None:
    """A sentence when the final score does not pass chance or the majority answer: then the gain is worth little."""
    final = report["final"]["mean"]
    names = [name for name in ("chance", "majority") if report[name] is not None and final is not None and final <= report[name]]
    if not names:
        return None
    references = " and ".join(f"{name} ({score(report[name])})" for name in names)
    return f"Mind: the final score {score(final)} is not above {references}."


def sealed_test(report: Mapping[str, Any]) -> str:
    """What the sealed test is, in one sentence."""
    confidence = report["difference"]["confidence"]
    words = f"{100 * confidence:.4g} % intervals" if confidence is not None else "Intervals"
    return f"Sealed test: examples that no step of the optimization saw, read once at the end by both configurations. {words}."


def line_legend(report: Mapping[str, Any]) -> str:
    """What the dotted and the dashed line of the first figure are, where there are any."""
    names = {"chance": "dotted line: chance", "majority": "dashed line: majority"}
    return "".join(f", {words}" for name, words in names.items() if report[name] is not None)


def references(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(name, value, what it is) of the chance and majority baselines."""
    return [
        ("chance", score(report["chance"]), "an answer drawn at random"),
        ("majority", score(report["majority"]), "always the most frequent answer"),
    ]


def changed_knobs(report: Mapping[str, Any]) -> list[str]:
    """`component.knob` of everything that differs between the first and the final configuration."""
    configuration = report["configuration"]
    changes = diff_configurations(configuration["before"] or {}, configuration["after"] or {})
    return list(dict.fromkeys(f"{label(change.component)}.{label(change.knob)}" for change in changes))


def accepted(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The iterations whose proposal was accepted."""
    return [row for row in report["iterations"] if row["verdict"] == "accept"]
