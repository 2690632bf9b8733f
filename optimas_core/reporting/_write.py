"""Writes report.json, report.md, report.html and ledger.parquet beside a run's other files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from optimas_core.artifacts import RunWorkspace, write_table
from optimas_core.reporting._damage import damage_told
from optimas_core.reporting._html import render_html
from optimas_core.reporting._markdown import render_markdown
from optimas_core.reporting._reduce import report_of


def write_report_of(run: RunWorkspace) -> tuple[dict[str, Any], dict[str, bytes], str]:
    """(report, file name -> bytes, address of report.html). The files lie under report/ of the run."""
    report = report_of(run)
    with damage_told(run):
        files = {
            "report.md": render_markdown(report).encode("utf-8", "replace"),
            "ledger.parquet": _ledger_table(report),
            "report.html": render_html(report).encode("utf-8", "replace"),
            # Last: a report.json of a finished run says that the others are there and of the same time.
            "report.json": json.dumps(report, indent=1, sort_keys=True, ensure_ascii=True).encode(),
        }
    addresses = {name: run.write_file(f"report/{name}", data) for name, data in files.items()}
    return report, files, addresses["report.html"].removeprefix("file://")


def _ledger_table(report: Mapping[str, Any]) -> bytes:
    rows = [{key: value for key, value in row.items() if key != "usd_known"} for row in report["ledger"]]
    for row, source in zip(rows, report["ledger"], strict=True):
        row["usd"] = None if source["calls"] and source["unpriced_calls"] == source["calls"] else source["usd_known"]
        row["component"], row["model"] = row["component"] or None, row["model"] or None
    return write_table("ledger", rows, run_id=report["run_id"], created_at=report["created_at"])


def write_report(run: RunWorkspace) -> tuple[dict[str, Any], str]:
    """As `write_report_of`, without the bytes."""
    report, _, where = write_report_of(run)
    return report, where
