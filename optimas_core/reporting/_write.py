"""Writes report.json, report.md and report.html beside a run's other files."""

from __future__ import annotations

import json
from typing import Any

from optimas_core.artifacts import RunWorkspace
from optimas_core.reporting._html import render_html
from optimas_core.reporting._markdown import render_markdown
from optimas_core.reporting._reduce import report_of


def write_report_of(run: RunWorkspace) -> tuple[dict[str, Any], dict[str, bytes], str]:
    """(report, file name -> bytes, address of report.html). The files lie under report/ of the run."""
    report = report_of(run)
    files = {
        "report.json": json.dumps(report, indent=1, sort_keys=True, ensure_ascii=True).encode(),
        "report.md": render_markdown(report).encode("utf-8", "replace"),
        "report.html": render_html(report).encode("utf-8", "replace"),
    }
    where = ""
    for name, data in files.items():
        where = run.write_file(f"report/{name}", data)
    return report, files, where.removeprefix("file://")


def write_report(run: RunWorkspace) -> tuple[dict[str, Any], str]:
    """As `write_report_of`, without the bytes."""
    report, _, where = write_report_of(run)
    return report, where
