"""The page and report.md: complete, self-contained, and deaf to whatever a model wrote."""

import copy
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from optimas_core.reporting._figures import landscape, learning_curve
from optimas_core.reporting._heat_map import cell_kind, heat_map
from optimas_core.reporting._html import render_html
from optimas_core.reporting._markdown import render_markdown
from optimas_core.reporting._shown_text import shown, visible
from optimas_core.reporting._tables import cost_table, heat_map_table

EXAMPLE = json.loads((Path(__file__).parents[2] / "fixtures/report/example.json").read_text(encoding="utf-8"))
HOSTILE = "</pre></title></style><script>document.title='owned'</script><img src=x onerror=alert(1)>&\"'\x00\u202e{{7*7}}\n```\n# <b>$x_1$"
VOID = {"meta", "br", "img", "link", "hr", "input"}


class Page(HTMLParser):
    """Tags, attributes and visible text of a document; fails on a tag closed out of order."""

    def __init__(self, document: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(document)
        assert self._open == [], f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data


def every_text_replaced(value: Any, text: str, kept: frozenset[str] = frozenset()) -> Any:
    """`value` with every string replaced, except under the keys that are closed vocabularies."""
    if isinstance(value, dict):
        return {key: item if key in kept else every_text_replaced(item, text, kept) for key, item in value.items()}
    if isinstance(value, list):
        return [every_text_replaced(item, text, kept) for item in value]
    return text if isinstance(value, str) else value


def hostile_report(text: str = HOSTILE) -> dict[str, Any]:
    vocabularies = frozenset({"verdict", "status", "statuses", "kind", "steered_by", "format"})
    report = every_text_replaced(EXAMPLE, text, vocabularies)
    report["verdict"] = {"kind": "improved", "line": text}
    for name in ("before", "after"):
        report["configuration"][name][text] = {text: text}
    for points in report["landscapes"]:
        points["points"][0]["value"] = text
    report["alignment_initial"][text] = report["alignment_initial"]["answerer"]
    report["seeds"][text] = report["versions"][text] = report["digests"][text] = text
    return report


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render_html(EXAMPLE))


def test_the_page_is_self_contained(page: Page) -> None:
    document = render_html(EXAMPLE)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert not [item for item in page.attributes if item[1].startswith("on") or item[1] in ("src", "action", "srcset")]
    links = [value for _, name, value in page.attributes if name.endswith("href")]
    assert links and all(value.startswith("#") for value in links)
    assert not re.search(r"https?://|@import|url\((?!#)", document)
    policy = next(value for tag, name, value in page.attributes if tag == "meta" and name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")


def test_ids_are_unique_and_references_resolve(page: Page) -> None:
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    document = render_html(EXAMPLE)
    used = {value[1:] for _, name, value in page.attributes if name == "href"}
    used |= set(re.findall(r"url\(#([^)]+)\)", document))
    used |= {value for _, name, value in page.attributes if name == "aria-labelledby"}
    assert used <= set(ids)


@pytest.mark.parametrize(
    "words",
    [
        "token F1 .11\u00a0\u2192\u00a0.38 on the sealed test",
        "+.27, 95\u00a0% interval +.17\u00a0to\u00a0+.37, n\u00a0=\u00a080",
        "Learning curve",
        "Accepted changes",
        "Iterations",
        "Alignment",
        "Cost by stage and model",
        "Items by iteration",
        "Final configuration",
        "How to reproduce",
        "Notes",
        "chance",
        "majority",
        "467",
        "of 900",
        "Give only the shortest answer that stands in it.",
        "no: not better than chance",
        "7 of 40 pairs are missing",
        "The lighthouse of Made Up Bay",
        "optimas run examples/quickstart/run.yaml --seed 7",
        "Made-up figures",
    ],
)
def test_the_page_says(page: Page, words: str) -> None:
    assert words in page.text


def test_accessible_names(page: Page) -> None:
    assert page.tags.count("h1") == 1
    assert page.tags.count("figcaption") == page.tags.count("figure")
    drawings = [item for item in page.attributes if item[0] == "svg" and item[1] == "aria-label" and item[2]]
    assert len(drawings) == page.tags.count("svg") == 6
    assert all(value for tag, name, value in page.attributes if tag == "th" and name == "scope")


def test_hostile_text_stays_text() -> None:
    document = render_html(hostile_report())
    hostile = Page(document)
    assert set(hostile.tags) <= set(Page(render_html(EXAMPLE)).tags), "a text made a tag"
    assert not [item for item in hostile.attributes if item[1].startswith("on")]
    assert "document.title='owned'" in hostile.text and "{{7*7}}" in hostile.text
    assert "\x00" not in document and "\u202e" not in document and "[U+202E]" in hostile.text and "[U+0000]" in hostile.text
    document.encode("utf-8")


def test_a_dollar_in_a_label_is_not_mathematics() -> None:
    drawing = landscape([{"value": "$x_1$ costs 0.12345", "local": 0.1, "measured": None, "n": 1}], "a.b")
    assert drawing is not None and "$x_1$ costs 0\u2026" in drawing


def test_hostile_markdown_stays_text() -> None:
    text = render_markdown(hostile_report())
    outside, fence = [], None
    for line in text.splitlines():
        opened = re.fullmatch(r"(`{3,})(text)?", line)
        if fence is None and opened:
            fence = opened.group(1)
        elif fence == line:
            fence = None
        elif fence is None:
            outside.append(line)
    assert fence is None, "a fence was left open"
    assert "<b>" not in "\n".join(outside), "a text closed its fence"
    assert "<script" not in "\n".join(outside) and "<img" not in "\n".join(outside)
    assert "\x00" not in text and "\u202e" not in text


def test_tables_of_markdown_have_their_columns() -> None:
    widths: list[set[int]] = [set()]
    for line in render_markdown(hostile_report("a | b \\| c \\")).splitlines():
        if line.startswith("|"):
            widths[-1].add(len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)))
        elif widths[-1]:
            widths.append(set())
    assert len(widths) > 6 and all(len(columns) <= 1 for columns in widths)


def test_a_megabyte_is_shortened_with_a_note() -> None:
    report = copy.deepcopy(EXAMPLE)
    report["configuration"]["after"]["answerer"]["prompt"]["instruction"] = "word " * 200_000
    report["notes"] = ["n" * 1_000_000]
    document = render_html(report)
    assert len(document) < len(render_html(EXAMPLE)) + 40_000
    assert "shortened: the first 6,000 of 1,000,000 characters; the whole text is in report.json" in document
    assert shown("x" * 6000) == "x" * 6000


def test_joiners_and_ordinary_scripts_survive() -> None:
    text = "\u0645\u0631\u062d\u0628\u0627 \u65e5\u672c \U0001f468\u200d\U0001f469 \u00e9\n\ttab"
    assert visible(text) == text
    assert visible("\ud800") == "[U+D800]"


def test_an_empty_unfinished_report_renders() -> None:
    report = copy.deepcopy(EXAMPLE)
    none = {"mean": None, "ci": None, "n": 0}
    report |= {
        "status": "running", "stop_reason": "", "baseline": none, "final": none, "difference": {**none, "confidence": 0.95},
        "chance": None, "majority": None, "iterations": [], "alignment_initial": {}, "learning_curve": [], "landscapes": [], "ledger": [],
        "items": {"example_ids": [], "rows": []}, "digests": {}, "reproduce": [], "notes": [],
        "spend": {"usd": None, "usd_unknown_calls": 0, "tokens": 0, "system_runs": 0, "hours": 0},
    }  # fmt: skip
    report["verdict"]["kind"] = "unfinished"
    page = Page(render_html(report))
    assert "The sealed test has not been read" in page.text and "not reported" in page.text
    assert "Unfinished" in render_markdown(report)


def test_every_figure_that_may_be_absent_may_be_absent() -> None:
    """Nullable figures of an iteration are not reported, and never 0."""
    report = copy.deepcopy(EXAMPLE)
    for row in report["iterations"]:
        row |= {"local_reward_before": None, "local_reward_after": None, "usd": None, "cumulative_usd": None, "change": None}
        row["alignment"] |= {"accuracy": None, "ci": None}
        row["decision"] = {"spearman": None, "regret": None, "candidates": 0}
        if row["validation"]:
            row["validation"] |= {"incumbent_mean": None, "challenger_mean": None, "difference": None, "ci": None, "p_value": None}
        for proposal in row["proposals"]:
            proposal |= {"local_reward": None, "measured_reward": None, "probability": None}
    for entry in report["ledger"]:
        entry["usd"] = None
    page = Page(render_html(report))
    assert "The change was not recorded." in page.text
    assert cost_table(report).rows[-1][7] == "not reported"
    render_markdown(report)


def test_missing_differs_from_wrong_and_from_a_format_error() -> None:
    kinds = [cell_kind(0.0, "ok", (0, 1)), cell_kind(None, "missing", (0, 1)), cell_kind(None, "format_error", (0, 1))]
    assert kinds == ["step-0", "missing", "format_error"]
    assert cell_kind(None, "not_run", (0, 1)) == "not_run" and cell_kind(1.0, "ok", (0, 1)) == "step-4"
    assert cell_kind(0.0, "ok", (-1, 1)) == "step-2"
    rows = [{"label": "x", "iteration": 0, "rewards": [0.0, None, None, 1.0], "statuses": ["ok", "missing", "format_error", "ok"]}]
    items = {"example_ids": list("abcd"), "rows": rows}
    assert heat_map_table({"items": items}).rows[0][1:] == (".50", "2", "1", "1", "0"), "a missing score is in no mean"
    drawing = heat_map(items, (0, 1)) or ""
    assert all(name in drawing for name in ("--step-0", "--step-4", "<pattern"))


def test_each_judged_proposal_is_a_mark_with_its_reason() -> None:
    drawing = learning_curve(EXAMPLE) or ""
    assert drawing.count("<title>iteration ") == sum(row["validation"] is not None for row in EXAMPLE["iterations"])
    assert "iteration 5, answerer.max_tokens: indecisive" in drawing and "7 of 40 pairs are missing" in drawing


def test_rendering_is_repeatable_and_leaves_no_matplotlib_state() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    assert render_html(EXAMPLE) == render_html(EXAMPLE)
    assert dict(matplotlib.rcParams) == before


def test_importing_the_package_imports_no_heavy_library() -> None:
    code = (
        "import sys, optimas_core.reporting._html, optimas_core.reporting._markdown, optimas_core.reporting._figures;"
        "print([name for name in ('matplotlib', 'jinja2', 'torch', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
