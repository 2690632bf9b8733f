"""The report in a real browser: hostile text runs nothing, and a phone needs no sideways scrolling.

Needs Chromium on the machine; without it these tests are skipped, and counted as skipped.
"""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from optimas_core.reporting._html import CONTENT_POLICY, render_html

EXAMPLE = json.loads((Path(__file__).parents[2] / "fixtures/report/example.json").read_text(encoding="utf-8"))
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PHONE_PX = 390
HOSTILE = (
    "</pre></title></style><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "<svg onload=\"document.title='owned'\"></svg>" + "unbreakable" * 40
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


def dump_dom(page: Path, profile: Path, width_px: int = 1280) -> str:
    """The document as Chromium has it after its scripts, if any, have run."""
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--allow-file-access-from-files",
        f"--user-data-dir={profile}", f"--window-size={width_px},2000", "--virtual-time-budget=3000", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    return done.stdout


def elements_of(document: str) -> tuple[set[str], set[str]]:
    """(names of the elements, names of their attributes)."""
    tags: set[str] = set()
    attributes: set[str] = set()

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.add(tag)
            attributes.update(name for name, _ in attrs)

    Reader().feed(document)
    return tags, attributes


def hostile(value: Any) -> Any:
    """Hostile text in every free text of the report."""
    free = {
        "label",
        "proposer",
        "summary",
        "reason",
        "steered_reason",
        "component",
        "model",
        "stage",
        "event",
        "instruction",
        "output",
        "inputs",
    }
    if isinstance(value, dict):
        return {key: _replaced(item) if key in free else hostile(item) for key, item in value.items()}
    return [hostile(item) for item in value] if isinstance(value, list) else value


def _replaced(value: Any) -> Any:
    return {key: HOSTILE for key in value} if isinstance(value, dict) else HOSTILE


def hostile_report() -> dict[str, Any]:
    report: dict[str, Any] = hostile(EXAMPLE)
    return {**report, "system": HOSTILE, "run_id": HOSTILE, "stop_reason": HOSTILE, "notes": [HOSTILE], "reproduce": [HOSTILE]}


def title_of(document: str) -> str:
    found = re.search(r"<title>(.*?)</title>", document, re.DOTALL)
    assert found is not None
    return html.unescape(found.group(1))


def test_hostile_text_executes_nothing(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render_html(hostile_report()), encoding="utf-8")
    document = dump_dom(page, tmp_path / "profile")
    assert "Improved: token F1" in title_of(document)
    assert "owned" not in title_of(document).replace("document.title='owned'", "")
    tags, attributes = elements_of(document)
    assert tags.isdisjoint({"script", "img"})
    assert not [name for name in attributes if name.startswith("on")]


def test_the_content_policy_stops_a_script_that_got_in(tmp_path: Path) -> None:
    """The second wall: even unescaped markup runs nothing. Without the policy the same page is owned."""
    attack = "<script>document.title='owned'</script></body>"
    document = render_html(EXAMPLE).replace("</body>", attack)
    page = tmp_path / "report.html"
    page.write_text(document, encoding="utf-8")
    assert title_of(dump_dom(page, tmp_path / "profile")) != "owned"
    policy = html.escape(CONTENT_POLICY, quote=False).replace("'", "&#39;")
    assert policy in document
    page.write_text(document.replace(policy, ""), encoding="utf-8")
    assert title_of(dump_dom(page, tmp_path / "profile")) == "owned", "the test's own attack does not work"


@pytest.mark.parametrize("report", [EXAMPLE, hostile_report()], ids=["example", "long words"])
def test_nothing_overflows_a_phone(tmp_path: Path, report: dict[str, Any]) -> None:
    """A frame as wide as a phone holds the report; the page around it measures, with every detail open."""
    page = tmp_path / "report.html"
    page.write_text(render_html(report).replace("<details>", "<details open>"), encoding="utf-8")
    frame = tmp_path / "frame.html"
    measure = (
        "const w = document.querySelector('iframe').contentWindow, d = w.document.documentElement;"
        "const wide = [...w.document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > w.innerWidth + 1"
        " && !e.closest('.scroll, pre, svg')).map(e => e.tagName + '.' + e.className).slice(0, 5);"
        "document.body.dataset.sizes = JSON.stringify([d.scrollWidth, w.innerWidth, wide]);"
    )
    frame.write_text(
        f'<body><iframe src="report.html" style="width:{PHONE_PX}px;height:3000px;border:0"></iframe>'
        f'<script>document.querySelector("iframe").onload = () => {{ {measure} }};</script></body>',
        encoding="utf-8",
    )
    found = re.search(r'data-sizes="([^"]*)"', dump_dom(frame, tmp_path / "profile"))
    assert found is not None, "the frame did not load"
    scroll_width, inner_width, wide = json.loads(html.unescape(found.group(1)))
    assert inner_width == PHONE_PX
    assert wide == []
    assert scroll_width <= PHONE_PX
