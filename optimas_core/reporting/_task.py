"""The report as a pipeline's task."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from optimas_core.artifacts import Workspace
from optimas_core.reporting._write import write_report_of


def report_task(workspace: str, run_id: str, html: str, figures: MutableMapping[str, Any]) -> str:
    """Write the run's report into its workspace and the page to the file `html`; returns the verdict line.

    Raises:
        SpecError: there is no such run.
    """
    report, files, _ = write_report_of(Workspace.open(workspace).run(run_id))
    Path(html).write_bytes(files["report.html"])
    for name in ("baseline", "final", "difference"):
        mean = (report.get(name) or {}).get("mean")
        if mean is not None:
            figures[name] = mean
    figures.update({name: report["spend"][name] for name in ("system_runs", "usd") if report["spend"].get(name) is not None})
    line: str = report["verdict"]["line"]
    return line
