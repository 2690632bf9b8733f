"""`optimas init`: a small project that runs as written, on the embedded model."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from optimas_core.errors import DataError

_FILES = ("system.py", "run.yaml", "examples.jsonl")


def write_project(directory: Path) -> None:
    """Write the template's files.

    Raises:
        DataError: one of them exists already; nothing is written then.
    """
    present = [name for name in _FILES if (directory / name).exists()]
    if present:
        raise DataError(f"{directory / present[0]} exists.", remedy="Give another directory; nothing was written.")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        source = resources.files("optimas_core.cli") / "template"
        for name in _FILES:
            (directory / name).write_text((source / name).read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{directory} cannot be written: {error.strerror}.", remedy="Give a directory you may write to.") from None
    print(f"Wrote {', '.join(_FILES)} to {directory}.")
    print(f"Next: cd {directory} && optimas doctor run.yaml && optimas run run.yaml")
