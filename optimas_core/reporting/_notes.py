"""The notes at the end of a report: what the figures rest on, and what a reader should mind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optimas_core.spec import RunSettings


def notes_of(report: Mapping[str, Any], settings: RunSettings, data: Mapping[str, Any], errors: Sequence[str]) -> list[str]:
    """Sentences about data, missing results, acceptance, steering and dropped proposals; `errors` are those of the sealed test."""
    finished = report["status"] == "finished" and report["verdict"]["kind"] != "unmoved"
    disjoint = f"{data['train']} training, {data['validation']} validation and {data['test']}"
    notes = [
        f"Data: {disjoint} test examples, disjoint; the test split was read once, at the end, by both configurations."
        if finished
        else f"Data: {disjoint} sealed test examples, disjoint.",
        "Chance: every test item scored with the unoptimized system's output for another item. Majority: the best of its frequent outputs,"
        " given to every item.",
        "A missing result is counted as missing, never as a score; an answer in another form than declared scores the metric's"
        " lowest value.",
    ]
    if settings.acceptance.kind == "strict":
        notes.append(
            "The acceptance rule was the paper's strict one: it does not bound the probability of accepting a change without effect."
        )
    if report["drift"] is not None:
        notes.append(f"Drift check against run {report['drift']['run']}: {report['drift']['reason']}.")
    iterations = report["iterations"]
    measured = [row for row in iterations if row["steered_by"] == "measured"]
    if measured:
        names = ", ".join(sorted({row["component"] for row in measured}))
        notes.append(
            f"{len(measured)} of {len(iterations)} local steps ({names}) compared measured rollouts, because the LRF was not trusted."
        )
    if report["leaks_caught"]:
        one = "1 proposal that copied text of an example; the table of its iteration says which and why."
        several = f"{report['leaks_caught']} proposals that copied text of an example; the tables of the iterations say which and why."
        notes.append(f"The leak guard dropped {one if report['leaks_caught'] == 1 else several}")
    test = report["sealed_test"]
    if test["missing"]:
        again = (
            " That is too much for a verdict. Run it again under another `name` when the models answer: what was measured costs nothing"
            " a second time."
        )
        notes.append(
            f"Sealed test: {test['missing']} of {test['items']} items have no score in at least one configuration."
            f"{again if report['verdict']['kind'] == 'indecisive' else ''}"
        )
    if errors:
        notes.append(f"Errors during the sealed test: {'; '.join(errors)}")
    return notes
