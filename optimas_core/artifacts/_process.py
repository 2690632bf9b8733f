"""Which process this is, in a way that another process on the same machine can check."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """`machine` tells boots and containers apart ("" where unknown); `started` tells a reused pid from the old one."""

    host: str
    machine: str
    pid: int
    started: str

    def is_dead_here(self) -> bool:
        """True only when this is the same machine, boot and container, and the process is certainly gone."""
        here = this_process()
        if not here.machine or (here.host, here.machine) != (self.host, self.machine):
            return False
        started = _started(self.pid)
        if started:
            return started != self.started  # another start time: the pid belongs to a younger process now
        return not _exists(self.pid)


def this_process() -> ProcessIdentity:
    return ProcessIdentity(socket.gethostname()[:100], _machine(), os.getpid(), _started(os.getpid()))


@lru_cache(maxsize=1)
def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux: a dead holder is then recognized by its silence only
        return ""


def _started(pid: int) -> str:
    """Start time in clock ticks since boot, "zombie" for one that has ended, "" where it cannot be read."""
    try:
        # The command's name stands in parentheses and may hold anything: count fields from the last one.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return "zombie" if fields[0] in ("Z", "X") else fields[19]
    except (OSError, IndexError):
        return ""


def _exists(pid: int) -> bool:
    """Also true where /proc hides other users' processes."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
