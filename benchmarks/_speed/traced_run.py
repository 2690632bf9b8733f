"""`optimas run` in this process with a trace: when model calls, batches of the model, and work on the reward functions were in progress.

    python traced_run.py trace.json run run.yaml

Everything after the first argument is the command line of `optimas`. Times are seconds of the machine's monotonic clock, so
the process that started this one can set them beside its own.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

Span = tuple[str, float, float]


class Trace:
    """Spans (what, begin, end), from any thread."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._lock = threading.Lock()

    def around(self, what: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """`call`, each of whose awaits becomes a span."""

        async def traced(*arguments: Any, **options: Any) -> Any:
            began_s = time.monotonic()
            try:
                return await call(*arguments, **options)
            finally:
                with self._lock:
                    self.spans.append((what, began_s, time.monotonic()))

        return traced

    def around_blocking(self, what: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same for a plain function."""

        def traced(*arguments: Any, **options: Any) -> Any:
            began_s = time.monotonic()
            try:
                return call(*arguments, **options)
            finally:
                with self._lock:
                    self.spans.append((what, began_s, time.monotonic()))

        return traced


def main() -> None:
    from optimas_core.cli import main as optimas
    from optimas_core.models.local import Local
    from optimas_core.stages import _local_optimize, _lrf

    trace = Trace()
    Local.complete = trace.around("model call", Local.complete)  # type: ignore[method-assign,assignment]
    Local._run = trace.around_blocking("batch", Local._run)  # type: ignore[method-assign]
    _lrf.in_short_thread = trace.around("training", _lrf.in_short_thread)  # type: ignore[attr-defined,assignment]
    _local_optimize.in_short_thread = trace.around("local rewards", _local_optimize.in_short_thread)  # type: ignore[attr-defined,assignment]
    target, sys.argv = Path(sys.argv[1]), ["optimas", *sys.argv[2:]]
    try:
        optimas()
    finally:
        target.write_text(json.dumps(trace.spans))


if __name__ == "__main__":
    main()
