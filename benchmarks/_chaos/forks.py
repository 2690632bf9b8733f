"""Processes of `optimas` that start in milliseconds and can be killed, stopped and waited for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any

ZYGOTE = Path(__file__).with_name("zygote.py")
ROOT = Path(__file__).resolve().parents[2]


class Child:
    """One `optimas` process."""

    def __init__(self, pid: int, output: Path) -> None:
        self.pid = pid
        self.output = output
        self.ended: Future[int] = Future()

    def wait(self, timeout_s: float = 120.0) -> int:
        """Its exit code, negative for a signal. Raises TimeoutError, and leaves it running."""
        return self.ended.result(timeout_s)

    @property
    def said(self) -> str:
        """What it and those before it in the same file wrote to stdout and stderr."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def send(self, signal_number: int) -> None:
        """Nothing happens where it has ended."""
        if not self.ended.done():
            os.kill(self.pid, signal_number)

    def is_stopped(self) -> bool:
        """Whether SIGSTOP holds it."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except OSError:
            return False


class Zygote:
    """Starts children from one process that has imported everything. Use as a context manager; one thread may start at a time."""

    def __init__(self, *, environment: Mapping[str, str] | None = None) -> None:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("OPTIMAS_CRASH")}
        self._environment = plain | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._environment |= {"PYTHONPATH": str(ROOT), **(environment or {})}
        self._children: dict[int, Child] = {}
        self._started: Future[Child] = Future()
        self._lock = threading.Lock()
        self._output = Path(os.devnull)

    def __enter__(self) -> Zygote:
        self._process = subprocess.Popen(
            [sys.executable, str(ZYGOTE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._environment, text=True, bufsize=1
        )
        assert self._process.stdout is not None
        first = self._process.stdout.readline()
        if "ready" not in first:
            raise RuntimeError(f"the zygote did not start: {first!r}")
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for child in list(self._children.values()):
            child.send(9)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def start(self, arguments: Sequence[object], *, output: Path, environment: Mapping[str, str] | None = None, **options: Any) -> Child:
        """Start `optimas *arguments`; `options` as in zygote.py."""
        command = {"arguments": [str(item) for item in arguments], "output": str(output), "environment": dict(environment or {})}
        with self._lock:
            self._started, self._output = Future(), output
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(command | options) + "\n")
            self._process.stdin.flush()
            return self._started.result(60)

    def run(self, arguments: Sequence[object], *, output: Path, timeout_s: float = 120.0, **options: Any) -> int:
        """Start it and wait for its exit code."""
        return self.start(arguments, output=output, **options).wait(timeout_s)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if "code" in message:
                self._children.pop(message["pid"]).ended.set_result(message["code"])
            else:
                child = Child(message["pid"], self._output)
                self._children[child.pid] = child
                self._started.set_result(child)
