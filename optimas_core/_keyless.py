"""What a process of ours writes passes through here: results, progress, a user's own prints, warnings of libraries,
tracebacks, also of threads. What a subprocess of the user's writes does not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from optimas_core._redaction import without_keys


class KeylessStream:
    """A text stream without keys; everything but writing is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(without_keys(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def keyless_output() -> Iterator[None]:
    """A component of a user may print a key or raise an exception with one in its text, and a log outlives the run."""
    plain = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = KeylessStream(plain[0]), KeylessStream(plain[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = plain
