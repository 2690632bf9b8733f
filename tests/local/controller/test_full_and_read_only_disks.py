"""A workspace on a disk that fills up or becomes read-only: one sentence, an exit code, and the run goes on once there is room."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from optimas_core.artifacts import Workspace


@dataclass(frozen=True)
class Disk:
    """A small file system that only processes in a mount namespace of their own see, at `path`."""

    pid: int
    path: Path

    def remount(self, options: str) -> None:
        command = ["nsenter", "-t", str(self.pid), "-m", "mount", "-o", f"remount,{options}", str(self.path)]
        for _ in range(50):  # a file that is just being written keeps it busy
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                return
            time.sleep(0.05)
        raise AssertionError(done.stderr)

    @property
    def from_outside(self) -> Path:
        """Its content, as this process can read it."""
        return Path(f"/proc/{self.pid}/root{self.path}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Skips where a process may not mount in a namespace of its own."""
    if not all(shutil.which(name) for name in ("unshare", "nsenter", "mount")):
        pytest.skip("unshare, nsenter and mount are needed")
    path = tmp_path / "disk"
    path.mkdir()
    script = f"mount -t tmpfs -o size=64m tmpfs {path} && echo mounted && exec sleep 600"
    with subprocess.Popen(["unshare", "-m", "sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stderr is not None
        try:
            if "mounted" not in holder.stdout.readline():
                pytest.skip(f"mounting in an own namespace is not permitted: {holder.stderr.read()[:200]}")
            yield Disk(holder.pid, path)
        finally:
            holder.kill()


@pytest.fixture
def runs(series_in: Callable[..., Any], disk: Disk) -> tuple[Any, Any, Path, int]:
    """Runs on the small disk; what an undisturbed run elsewhere leaves, its billed calls and how many bytes of disk it takes."""
    series = series_in(None)
    process = series.process("whole", report=True)
    assert process.wait() == 0
    return replace(series, place=str(disk.path)), series.left("whole"), process.calls, size_of(Path(series.where("whole")))


def left(series: Any, disk: Disk) -> Any:
    copy = series.logs / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(disk.from_outside / "run", copy)
    return series.compare.what_is_left(Workspace.open(copy), "chaos")


def size_of(folder: Path) -> int:
    """Bytes that the folder takes from its disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*"))


def test_a_full_disk_is_one_sentence_and_with_room_the_run_goes_on(runs: tuple[Any, Any, Path, int], disk: Disk) -> None:
    series, whole, calls, size = runs
    billed, flying = list[Path](), 0
    for share in (0.1, 0.3, 0.5, 0.7):
        disk.remount(f"size={int(share * size)}")
        process = series.process("run", resume=share > 0.1, mounts_of=disk.pid, report=True, lease_ttl_s=0.5)
        assert process.wait() == 1, (share, process.said[-1500:])
        last = process.said.strip().splitlines()[-1]
        assert last.startswith("optimas: ") and "No space left on device" in last and "Free space" in last, last
        assert "Traceback" not in process.said, process.said[-3000:]
        assert not series.compare.differences(left(series, disk), whole, finished=False), share
        billed.append(process.calls)
        flying += series.compare.in_flight(process.points)
    disk.remount("size=64m")
    process = series.process("run", resume=True, mounts_of=disk.pid)
    assert process.wait() == 0, process.said[-1500:]
    assert not series.compare.differences(left(series, disk), whole, finished=True)
    assert series.compare.repeated_calls([*billed, process.calls], calls, flying) == 0


def test_a_workspace_that_becomes_read_only(runs: tuple[Any, Any, Path, int], disk: Disk) -> None:
    series, whole, _, _ = runs
    process = series.process("run", mounts_of=disk.pid, crash_at="lrf-file.before", signal=signal.SIGSTOP, lease_ttl_s=0.5)
    until = time.monotonic() + 60
    while not process.child.is_stopped():
        assert time.monotonic() < until
        time.sleep(0.01)
    disk.remount("ro")
    process.child.send(signal.SIGCONT)
    for _ in range(2):  # the one that was running, and one that begins there
        assert process.wait() == 2, process.said[-1500:]
        last = process.said.strip().splitlines()[-1]
        assert last.startswith("optimas: ") and "Read-only file system" in last and "that you can write to" in last, last
        assert "Traceback" not in process.said, process.said[-3000:]
        process = series.process("run", resume=True, mounts_of=disk.pid)
    process.wait()
    disk.remount("rw")
    process = series.process("run", resume=True, mounts_of=disk.pid)
    assert process.wait() == 0, process.said[-1500:]
    assert not series.compare.differences(left(series, disk), whole, finished=True)


def test_looking_at_a_run_writes_nothing(runs: tuple[Any, Any, Path, int], disk: Disk) -> None:
    series, _, _, _ = runs
    assert series.process("run", mounts_of=disk.pid).wait() == 0
    disk.remount("ro")
    for arguments, code in ((["status"], 0), (["watch"], 0), (["diff"], 0), (["gc", "--dry-run"], 0), (["report"], 2)):
        place = [disk.path / "run"] if arguments[0] == "gc" else [disk.path / "run", "chaos"]
        output = series.logs / arguments[0]
        assert series.zygote.run([arguments[0], *place, *arguments[1:]], output=output, mounts_of=disk.pid) == code, output.read_text()
        assert "Traceback" not in output.read_text()
