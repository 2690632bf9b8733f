"""The report as a pipeline's task."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from optimas_core.artifacts import Workspace
from optimas_core.canonical import canonical_json
from optimas_core.reporting._write import write_report_of


def report_task(workspace: str, run_id: str, html: str, figures: MutableMapping[str, Any], manifest: str = "") -> str:
    """Write the run's report into its workspace and the page to the file `html`; returns the verdict line.

    To the file `manifest`, where one is named, go the configuration that the run ended with and the digests of what decided it.

    Raises:
        SpecError: there is no such run.
    """
    run = Workspace.open(workspace).run(run_id)
    report, files, _ = write_report_of(run)
    Path(html).write_bytes(files["report.html"])
    for name in ("baseline", "final", "difference"):
        mean = (report.get(name) or {}).get("mean")
        if mean is not None:
            figures[name] = mean
    figures.update({name: report["spend"][name] for name in ("system_runs", "usd") if report["spend"].get(name) is not None})
    if manifest:
        shown = {"run": run.uri, "digests": report["digests"], "configuration": report["configuration"]["after"]}
        Path(manifest).write_text(canonical_json(shown) + "\n", encoding="utf-8")
    line: str = report["verdict"]["line"]
    return line
