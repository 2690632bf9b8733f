"""The hunt: slices of inputs in forked processes, so that one that crashes, hangs or takes all memory costs a slice and names itself."""

from __future__ import annotations

import base64
import json
import logging
import mmap
import os
import random
import resource
import select
import signal
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from _fuzz.judging import Line, Outcome, judge, lines_of
from _fuzz.mutations import MAX_BYTES, broken_bytes
from _fuzz.readers import Target

SLICE_S = 3.0
HANGS_AFTER_S = 120.0
MAX_ADDRESS_BYTES = 6 << 30
# Every so many inputs also their lines are followed, which is slow.
_TRACED_EVERY = 8
_OWN_FAILURE = 70
# For the good inputs and those of the corpus, before the first slice.
_KNOWN_S = 10.0
_ROOM = 2 * MAX_BYTES + 4096
_SHRINK_TRIES = 150


@dataclass
class Found:
    """Of one target: `kept` maps a signature to its smallest input; `pool` is what new inputs are made of; `read` are those that were
    read without an error and reached lines that none before them had, with the number of these."""

    target: Target
    pool: list[bytes]
    inputs: int = 0
    cpu_s: float = 0.0
    peak_mb: int = 0
    slowest_s: float = 0.0
    slices: int = 0
    kept: dict[str, tuple[Outcome, bytes]] = field(default_factory=dict)
    lines: set[Line] = field(default_factory=set)
    read: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def errors(self) -> int:
        """Distinct errors of ours."""
        return sum(1 for outcome, _ in self.kept.values() if outcome.kind == "refused")

    @property
    def defects(self) -> list[tuple[Outcome, bytes]]:
        return [item for item in self.kept.values() if item[0].kind == "defect"]

    def take(self, outcome: Outcome, data: bytes, lines: set[Line]) -> None:
        known = self.kept.get(outcome.signature)
        if known is None or len(data) < len(known[1]):
            self.kept[outcome.signature] = (outcome, data)
        if (known is None or lines - self.lines) and outcome.kind != "defect":
            self.pool.append(data)
        if lines - self.lines and outcome.kind == "read":
            self.read.append((len(lines - self.lines), data))
        self.lines |= lines


def hunt(targets: Sequence[Target], *, seconds: float, seed: int, corpus: Mapping[str, Sequence[bytes]]) -> list[Found]:
    """Every target gets its share of the time, in turns, until `seconds` have passed; `corpus`: target -> earlier inputs, tried first."""
    found = [Found(target, [*target.seeds, *corpus.get(target.name, ())]) for target in targets]
    until_s = time.monotonic() + seconds
    for item in found:
        _slice(item, f"{seed}", until_s, known=True)
    while time.monotonic() < until_s:
        for item in found:
            if time.monotonic() < until_s:
                _slice(item, f"{seed}:{item.slices}", until_s)
    return found


def _slice(found: Found, seed: str, until_s: float, known: bool = False) -> None:
    """One forked process; what it finds comes back line by line."""
    found.slices += 1
    current = mmap.mmap(-1, _ROOM)
    source, sink = os.pipe()
    began_s = time.monotonic()
    pid = os.fork()
    if pid == 0:
        code = _OWN_FAILURE
        try:
            os.close(source)
            resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_BYTES, MAX_ADDRESS_BYTES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            with os.fdopen(sink, "w") as out:
                _worker(
                    found,
                    random.Random(f"{found.target.name}:{seed}"),
                    current,
                    out,
                    min(until_s, began_s + SLICE_S * found.target.share),
                    known,
                )
            code = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(sink)
    _listen(found, pid, source, current)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == _OWN_FAILURE:
        raise RuntimeError(f"the fuzzer itself failed at {found.target.name}; its traceback stands above")
    if status != 0:
        size = int.from_bytes(current[:8], "little")
        data = bytes(current[8 : 8 + size])
        how = "hangs" if status == -signal.SIGKILL else f"ends the process ({status})"
        found.take(Outcome("defect", how, detail=f"exit status {status}"), data, set())


def _listen(found: Found, pid: int, source: int, current: mmap.mmap) -> None:
    with os.fdopen(source, "rb", buffering=0) as lines:
        rest, last, since_s = b"", b"", time.monotonic()
        while True:
            if select.select([lines], [], [], 1.0)[0]:
                chunk = lines.read(1 << 20)
                if not chunk:
                    return
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    _took(found, json.loads(line))
            if current[: 1 << 12] != last:
                last, since_s = current[: 1 << 12], time.monotonic()
            elif time.monotonic() - since_s > HANGS_AFTER_S:
                os.kill(pid, signal.SIGKILL)


def _took(found: Found, message: dict[str, Any]) -> None:
    if "inputs" in message:
        found.inputs += message["inputs"]
        found.cpu_s += message["cpu_s"]
        found.peak_mb = max(found.peak_mb, message["peak_mb"])
        found.slowest_s = max(found.slowest_s, message["slowest_s"])
    else:
        lines = {(name, number) for name, number in message["lines"]}
        found.take(Outcome(**message["outcome"]), base64.b64decode(message["data"]), lines)


def _worker(found: Found, rng: random.Random, current: mmap.mmap, out: Any, until_s: float, known: bool) -> None:
    logging.disable()  # a damaged call record is a warning each time
    target, began_s = found.target, time.process_time()
    tried = peak_mb = 0
    slowest_s = 0.0
    waiting = list(found.pool) if known else []
    while waiting if known else time.monotonic() < until_s:
        if known and time.process_time() - began_s > _KNOWN_S:
            break  # the rest are parents all the same
        data = waiting.pop() if waiting else _made(target, found.pool, rng)
        current[:8] = len(data).to_bytes(8, "little")
        current[8 : 8 + len(data)] = data
        outcome = judge(target, data)
        tried, peak_mb, slowest_s = tried + 1, max(peak_mb, outcome.extra_mb), max(slowest_s, outcome.cpu_s)
        seen = found.kept.get(outcome.signature)
        new_lines: set[Line] = set()
        if (known and target.max_cpu_s <= 5) or tried % _TRACED_EVERY == 0:
            new_lines = lines_of(lambda data=data: judge(target, data)) - found.lines  # type: ignore[misc]
        if seen is None or new_lines or (len(data) < 0.8 * len(seen[1])):
            if seen is None and outcome.kind == "defect" and not known:
                data = _shrunk(target, outcome, data)
            found.take(outcome, data, new_lines)
            message = {"outcome": asdict(outcome), "data": base64.b64encode(data).decode(), "lines": sorted(new_lines)}
            out.write(json.dumps(message) + "\n")
            out.flush()
    total = {"inputs": tried, "cpu_s": time.process_time() - began_s, "peak_mb": peak_mb, "slowest_s": slowest_s}
    out.write(json.dumps(total) + "\n")


def _made(target: Target, pool: Sequence[bytes], rng: random.Random) -> bytes:
    data = rng.choice(pool) if rng.random() < 0.6 else rng.choice(target.seeds)
    other = rng.choice(pool) if rng.random() < 0.3 else b""
    try:
        return target.break_(data, rng, other)[:MAX_BYTES]
    except Exception:  # too hostile to be taken apart
        return broken_bytes(data, rng, other)


def _shrunk(target: Target, outcome: Outcome, data: bytes) -> bytes:
    """A smaller input of the same signature: parts are left out as long as that stays."""
    size, tries, until_s = len(data) // 2, 0, time.monotonic() + 10
    while size >= 1 and tries < _SHRINK_TRIES and time.monotonic() < until_s:
        at = 0
        while at < len(data) and tries < _SHRINK_TRIES:
            smaller = data[:at] + data[at + size :]
            tries += 1
            if judge(target, smaller).signature == outcome.signature:
                data = smaller
            else:
                at += size
        size //= 2
    return data
