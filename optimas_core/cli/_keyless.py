"""What the command line writes to stderr passes through here: progress, warnings of libraries, tracebacks, also of threads."""

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
def keyless_stderr() -> Iterator[None]:
    """A component of a user may raise an exception with a key in its text, and any thread may print that."""
    plain = sys.stderr
    sys.stderr = KeylessStream(plain)
    try:
        yield
    finally:
        sys.stderr = plain
