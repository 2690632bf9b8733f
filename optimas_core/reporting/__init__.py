"""Reports: one reducer over the workspace, rendered as HTML, Markdown, JSON and one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optimas_core.reporting._damage import damage_told
    from optimas_core.reporting._diff_output import changes_as_text
    from optimas_core.reporting._reduce import report_of
    from optimas_core.reporting._shown_text import visible
    from optimas_core.reporting._task import report_task
    from optimas_core.reporting._text_diff import diff_configurations
    from optimas_core.reporting._write import write_report, write_report_of

_HOME = {
    "diff_configurations": "_text_diff",
    "changes_as_text": "_diff_output",
    "damage_told": "_damage",
    "report_of": "_reduce",
    "report_task": "_task",
    "visible": "_shown_text",
    "write_report": "_write",
    "write_report_of": "_write",
}

__all__ = [
    "changes_as_text",
    "damage_told",
    "diff_configurations",
    "report_of",
    "report_task",
    "visible",
    "write_report",
    "write_report_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
