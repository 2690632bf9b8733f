"""One self-contained HTML file: no script, no address, every text escaped by the template engine."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimas_core.reporting import _figures, _numbers, _summary_words, _tables
from optimas_core.reporting._diff_output import change_as_html
from optimas_core.reporting._heat_map import MAX_ITEMS, MAX_ROWS, heat_map
from optimas_core.reporting._shown_text import label, shown, value_text, visible
from optimas_core.reporting._text_diff import demonstration_text, diff_configurations, is_prompt
from optimas_core.reporting._verdict_line import VERDICTS, difference_words, money_words, result_words, verdict_line

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def render_html(report: Mapping[str, Any]) -> str:
    """The report as one HTML document that opens from disk.

    Every text that a model or a user wrote is shown as text: escaped, invisible characters made visible, a very long one
    cut with a note.
    """
    return _environment().get_template("report.html.j2").render(_context(report))


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        score=_numbers.score, signed=_numbers.signed, interval=_numbers.interval, count=_numbers.count, label=label,
        shown=shown, value_text=value_text, demonstration_text=demonstration_text, visible=visible, typeset=_typeset,
    )  # fmt: skip
    environment.tests["prompt"] = is_prompt
    return environment


def _context(report: Mapping[str, Any]) -> dict[str, Any]:
    items = report["items"]
    return {
        "report": report,
        "content_policy": CONTENT_POLICY,
        "title": f"{label(report['system'])}: {verdict_line(report)}",
        "verdict": VERDICTS[report["verdict"]["kind"]],
        "result": result_words(report).split(" (")[0] if report["final"]["mean"] is not None else result_words(report),
        "difference": difference_words(report) if report["difference"]["mean"] is not None else None,
        "money": money_words(report),
        "words": _summary_words,
        "tables": _tables,
        "learning_curve": _markup(_figures.learning_curve(report, _spend_axis(report))),
        "before_after": _markup(_figures.before_after(report)),
        "alignment": _markup(_figures.alignment(report)),
        "landscapes": [(part, _markup(_landscape(part))) for part in report["landscapes"]],
        "heat_map": _markup(heat_map(items, (report["metric"]["low"], report["metric"]["high"]))),
        "heat_map_cut": len(items["example_ids"]) > MAX_ITEMS or len(items["rows"]) > MAX_ROWS,
        "heat_map_limits": (MAX_ROWS, MAX_ITEMS),
        "accepted": [(row, _changes(row)) for row in _summary_words.accepted(report)],
    }


def _changes(row: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(path, escaped HTML) of every knob that an accepted proposal changed."""
    if row["change"] is None:
        return []
    name = row["component"]
    changes = diff_configurations({name: row["change"]["before"]}, {name: row["change"]["after"]})
    return [(visible(change.path), change_as_html(change)) for change in changes]


def _landscape(part: Mapping[str, Any]) -> str | None:
    return _figures.landscape(part["points"], f"{part['component']}.{part['knob']}")


def _spend_axis(report: Mapping[str, Any]) -> str:
    """System runs, unless a run counted none and paid money."""
    points = report["learning_curve"]
    runs = any(point["system_runs"] for point in points)
    return "system_runs" if runs or not any(point["usd"] for point in points) else "usd"


def _typeset(text: str) -> str:
    """ASCII figures as a printed page has them: a real minus and a real arrow."""
    parts = text.replace("->", "\u2192").split("-")
    joined = parts[0]
    for part in parts[1:]:
        minus = part[:1] in tuple(".0123456789") and (not joined or joined[-1] in " (")
        joined += ("\u2212" if minus else "-") + part
    # A figure stays with its unit, its interval and its n when a line breaks.
    return re.sub(r"(?<=n) = (?=\d)|(?<=\d) to (?=[+\u2212.\d])|(?<=\d) \u2192 (?=[.\d])|(?<=\d) (?=%)", _unbroken, joined)


def _unbroken(gap: re.Match[str]) -> str:
    return gap.group().replace(" ", "\u00a0")


def _markup(svg: str | None) -> Any:
    """A drawing of ours, whose texts matplotlib and `to_svg` have escaped."""
    from markupsafe import Markup

    return None if svg is None else Markup(svg)
