"""What a run left behind, and in what it differs from a run that nobody disturbed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optimas_core.artifacts import Workspace

# Where money is spent, and where its result is kept.
_PAID = ("paid-call.before", "proposal-call.before")
_KEPT = "call-record.after"


@dataclass(frozen=True)
class Left:
    """Committed bytes by key (manifests, the files they name, configurations, spec), states in order, keys no manifest names."""

    committed: Mapping[str, bytes]
    states: tuple[Mapping[str, Any], ...]
    orphans: frozenset[str] = frozenset()


@dataclass
class Differences:
    """`lost`: what the undisturbed run has and this one has not. `diverged`: other bytes, other states, or what only this one has.
    `repeated`: model calls made more often than there, beyond those in flight at a kill."""

    lost: set[str] = field(default_factory=set)
    diverged: set[str] = field(default_factory=set)
    repeated: int = 0

    def __bool__(self) -> bool:
        return bool(self.lost or self.diverged or self.repeated)

    def add(self, other: Differences) -> None:
        self.lost |= other.lost
        self.diverged |= other.diverged
        self.repeated += other.repeated


def what_is_left(workspace: Workspace, run_id: str) -> Left:
    """Reads a workspace as a stranger would: from its files alone."""
    run, store = workspace.run(run_id), workspace.store
    keys = set(store.list(f"{run.prefix}/"))
    committed: dict[str, bytes] = {}
    folders: set[str] = set()
    named: set[str] = set()
    for key in keys:
        parts = key.split("/")
        if len(parts) >= 5:
            folders.add("/".join(parts[:4]))
        if len(parts) == 5 and parts[4] == "manifest.json":
            artifact = run.open_artifact(parts[2], parts[3])
            assert artifact is not None
            named |= {key, *(f"{artifact.folder}/{file.path}" for file in artifact.manifest.files)}
            committed[key] = _bytes(store.get(key))
            committed |= {f"{artifact.folder}/{name}": artifact.read(name) for name in artifact.names}
        elif parts[2] in ("configurations", "spec.json"):
            committed[key] = _bytes(store.get(key))
    inside = {key for key in keys if "/".join(key.split("/")[:4]) in folders}
    return Left(committed, tuple(state.data for state in run.states()), frozenset(inside - named))


def differences(left: Left, whole: Left, *, finished: bool) -> Differences:
    """`finished`: everything must be there; else what is there must be a beginning of it."""
    found = Differences()
    for key, data in left.committed.items():
        if whole.committed.get(key) != data:
            found.diverged.add(key)
    if finished:
        found.lost |= whole.committed.keys() - left.committed.keys()
    for index, state in enumerate(left.states):
        if index >= len(whole.states) or whole.states[index] != state:
            found.diverged.add(f"state {index}")
    if finished:
        found.lost |= {f"state {index}" for index in range(len(left.states), len(whole.states))}
    return found


def repeated_calls(billed: Iterable[Path], whole: Path, in_flight: int) -> int:
    """Calls billed more often than in the undisturbed run, beyond `in_flight`. Each file holds one digest a line and call."""
    made: Counter[str] = Counter()
    for path in billed:
        made.update(_lines(path))
    more = made - Counter(_lines(whole))
    return max(0, more.total() - in_flight)


def in_flight(points: Path) -> int:
    """Calls that a process had begun to pay for and not kept when it died, from its OPTIMAS_CRASH_LOG."""
    counts = Counter(_lines(points))
    return sum(counts[name] for name in _PAID) - counts[_KEPT]


def reached(points: Path) -> list[str]:
    """The places a process reached, in order."""
    return _lines(points)


def verdicts(left: Left) -> list[str]:
    """The verdict of every iteration, from the states."""
    found = (state.get("record", {}).get("result") for state in left.states)
    return [json.dumps(item["verdict"]) for item in found if item]


def _lines(path: Path) -> list[str]:
    return path.read_text().split("\n")[:-1] if path.exists() else []


def _bytes(blob: Any) -> bytes:
    return b"" if blob is None else bytes(blob.data)
