"""report.md: the report for a pull request or a terminal. Same words and tables as the page, no figures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from optimas_core.reporting import _numbers, _summary_words, _tables
from optimas_core.reporting._diff_output import changes_as_text
from optimas_core.reporting._shown_text import label, shown, value_text
from optimas_core.reporting._tables import Table
from optimas_core.reporting._text_diff import demonstration_text, diff_configurations, is_prompt
from optimas_core.reporting._verdict_line import verdict_line


def render_markdown(report: Mapping[str, Any]) -> str:
    """The report as Markdown; texts of models and users are escaped or stand in code fences they cannot close."""
    parts = [
        f"# Optimas report: {_inline(report['system'])}, run {_inline(report['run_id'])}",
        f"**{_inline(verdict_line(report), 2000)}**",
        " ".join(filter(None, (_summary_words.meaning(report), _summary_words.below_reference(report)))),
        _summary_words.sealed_test(report),
        "## Result", _table(_result(report)),
        "## Spent", _table(_spent(report)),
        "## Learning curve (validation split)", _table(_tables.curve_table(report)),
        "## Accepted changes", *_accepted(report),
        "## Iterations", _table(_tables.iterations_table(report)),
        "## Alignment of the local rewards",
        "Held-out pairwise accuracy; chance is .50, and a reward whose interval includes .50 does not steer.",
        _table(_tables.alignment_table(report)),
        "## Local against measured reward of discrete knobs", *_landscapes(report),
        "## Cost by stage and model", _table(_tables.cost_table(report)),
        "## Items by iteration", _table(_tables.heat_map_table(report)),
        "## Final configuration", *_configuration(report["configuration"]["after"] or {}),
        "## How to reproduce", _fence("\n".join(shown(command) for command in report["reproduce"])), _facts(report),
        "## Notes", "\n".join(f"- {_inline(note, 2000)}" for note in report["notes"]) or "None.",
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def _result(report: Mapping[str, Any]) -> Table:
    rows = []
    for name in ("baseline", "final", "difference"):
        part, differences = report[name], name == "difference"
        mean = _numbers.signed(part["mean"]) if differences else _numbers.score(part["mean"])
        rows.append((name, mean, _numbers.interval(part["ci"], differences=differences), _numbers.count(part["n"])))
    rows += [(name, value, "", "") for name, value, _ in _summary_words.references(report)]
    return Table((f"{label(report['metric']['name'])}, sealed test", "mean", "interval", "n"), tuple(rows), frozenset({1, 3}))


def _spent(report: Mapping[str, Any]) -> Table:
    rows = tuple((name, spent, limit) for name, spent, limit, _ in _tables.spend_rows(report))
    return Table(("what", "spent", "budget"), rows)


def _accepted(report: Mapping[str, Any]) -> list[str]:
    parts = []
    for row in _summary_words.accepted(report):
        parts.append(f"### Iteration {row['iteration']}: {_inline(row['component'])}.{_inline(row['knob'])}")
        parts.append(_inline(row["reason"], 240))
        if row["change"] is None:
            parts.append("The change was not recorded.")
            continue
        name = row["component"]
        changes = diff_configurations({name: row["change"]["before"]}, {name: row["change"]["after"]})
        parts.append(_fence(changes_as_text(changes)))
    return parts or ["No proposal was accepted."]


def _landscapes(report: Mapping[str, Any]) -> list[str]:
    parts = []
    for part in report["landscapes"]:
        parts += [f"### {_inline(part['component'])}.{_inline(part['knob'])}", _table(_tables.landscape_table(part))]
    return parts or ["None was measured."]


def _configuration(configuration: Mapping[str, Any]) -> list[str]:
    parts = []
    for component, knobs in sorted(configuration.items()):
        parts.append(f"### {_inline(component)}")
        for knob, value in sorted(knobs.items()):
            if not is_prompt(value):
                parts += [_inline(knob), _fence(shown(value_text(value)))]
                continue
            parts += [
                f"{_inline(knob)}: instruction ({_inline(value.get('format'))} format)",
                _fence(shown(value_text(value["instruction"]))),
            ]
            for number, demonstration in enumerate(value.get("demonstrations") or [], start=1):
                parts += [f"{_inline(knob)}: demonstration {number}", _fence(shown(demonstration_text(demonstration)))]
    return parts or ["Not reported."]


def _facts(report: Mapping[str, Any]) -> str:
    groups = (("seed", report["seeds"]), ("version", report["versions"]), ("digest", report["digests"]))
    return "\n".join(
        f"- {name} {_inline(key)}: {_numbers.NOT_REPORTED if value is None else _inline(value, 80)}"
        for name, group in groups
        for key, value in sorted(group.items())
    )


def _table(table: Table) -> str:
    if not table.rows:
        return "None."
    rule = ["---:" if index in table.numeric else "---" for index in range(len(table.headers))]
    rows = [
        [_inline(name, 2000) for name in table.headers],
        rule,
        *([_inline(cell, 2000) for cell in row] for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _inline(text: Any, limit: int = 48) -> str:
    """One line of text in which no character means anything to Markdown or HTML."""
    escaped = re.sub(r"([\\`*_{}\[\]<>|#~!$])", r"\\\1", label(text, limit))
    return escaped.replace("\\<", "&lt;").replace("\\>", "&gt;").replace("://", ":&#47;&#47;").replace("@", "&#64;")


def _fence(text: str) -> str:
    """A code fence longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
