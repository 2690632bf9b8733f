"""The command line of `optimas` in this process, with its requests to the store counted.

    python counted.py found.json [--until-first-step] resume run.yaml

Writes {"requests": {"get": …}, "first_step_s": …, "first_step_requests": …}; the time is of the machine's monotonic clock.
With --until-first-step the process ends there, as if it had been killed: the run stays as it was.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

_METHODS = ("get", "put", "scan", "delete")


def main() -> None:
    target, ends, arguments = Path(sys.argv[1]), "--until-first-step" in sys.argv, sys.argv[2:]
    counts: Counter[str] = Counter()
    found: dict[str, Any] = {}
    lock = threading.Lock()

    def counting(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **options: Any) -> Any:
            with lock:
                counts[name] += 1
            return call(*given, **options)

        return counted

    def write() -> None:
        target.write_text(json.dumps({"requests": counts, **found}))

    if any(not item.startswith("--") and item in ("resume", "run") for item in arguments):
        _watch_first_step(found, counts, write, ends=ends)
    from optimas_core.artifacts._directory import DirectoryStore
    from optimas_core.artifacts._s3 import S3Store

    for kind in (DirectoryStore, S3Store):
        for name in _METHODS:
            setattr(kind, name, counting(name, getattr(kind, name)))
    sys.argv = ["optimas", *(item for item in arguments if item != "--until-first-step")]
    from optimas_core.cli import main as optimas

    try:
        optimas()
    finally:
        write()


def _watch_first_step(found: dict[str, Any], counts: Counter[str], write: Callable[[], None], *, ends: bool) -> None:
    from optimas_core.controller import Controller

    step = Controller.step

    def watched(self: Any, state: Any) -> Any:
        if "first_step_s" not in found:
            found.update(first_step_s=time.monotonic(), first_step_requests=sum(counts.values()))
            if ends:
                write()
                os._exit(0)
        return step(self, state)

    Controller.step = watched  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
