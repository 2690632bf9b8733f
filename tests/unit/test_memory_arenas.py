"""The threads of a run share few pools of memory; what a user chose stays."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import ctypes, sys, threading
from optimas_core._memory import few_arenas
if sys.argv[2] == "few":
    few_arenas(2)
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together, done = threading.Barrier(9), threading.Event()
def work():
    libc.malloc(4096)
    together.wait()
    done.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
together.wait()
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
done.set()
"""


def arenas(tmp_path: Path, what: str, **environment: str) -> int:
    report = tmp_path / "malloc.xml"
    env = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"} | environment
    subprocess.run([sys.executable, "-c", PROGRAM, str(report), what], check=True, env=env)
    return len(re.findall("<heap nr=", report.read_text()))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_threads_share_few_pools(tmp_path: Path) -> None:
    assert arenas(tmp_path, "many") > 3
    assert arenas(tmp_path, "few") <= 3, "two, and the one that was there"
    assert arenas(tmp_path, "few", MALLOC_ARENA_MAX="6") > 3, "the user's own choice stays"
