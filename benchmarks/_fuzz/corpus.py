"""The inputs worth keeping: one for each distinct outcome and defect, small, as files that a test reads again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from _fuzz.hunting import Found
from _fuzz.readers import RESUMPTION

RUN = "run.zip"
MAX_CORPUS_BYTES = 290_000
_MAX_INPUT_BYTES = 12_000
_MIN_NEW_LINES = 3
# Beside the tables: an outcome of one is not kept for the other.
_SAME_READER = {"report-page": "whole"}


def load(folder: Path) -> dict[str, list[bytes]]:
    """Target -> inputs."""
    return {place.name: [path.read_bytes() for path in sorted(place.iterdir())] for place in folder.iterdir() if place.is_dir()}


def save(folder: Path, found: Sequence[Found], run: bytes) -> int:
    """Write those of these targets and return the bytes of the whole corpus. What was there was read first, so it stays if it is still
    the smallest of its sort."""
    by_name = {item.target.name: item for item in found}
    chosen: dict[Path, bytes] = {}
    sorts: set[str] = set()
    for name, item in by_name.items():
        for outcome, data in item.kept.values():
            sort = f"{_SAME_READER.get(name, name.partition('-')[0])} {outcome.signature}"
            if name == RESUMPTION or outcome.kind == "read" or len(data) > _MAX_INPUT_BYTES or sort in sorts:
                continue
            sorts.add(sort)
            label = outcome.error if outcome.kind == "refused" else "defect"
            chosen[_path(folder, name, label, data)] = data
        for count, data in item.read if name != RESUMPTION else ():
            if count >= _MIN_NEW_LINES and len(data) <= _MAX_INPUT_BYTES and data not in item.target.seeds:
                chosen[_path(folder, name, "read", data)] = data
    for path in [path for name in by_name for path in (folder / name).glob("*")]:
        path.unlink()
    (folder / RUN).write_bytes(run)
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    for path, data in sorted(chosen.items(), key=lambda pair: (pair[0].name.startswith("read"), len(pair[1]), str(pair[0]))):
        if total + len(data) > MAX_CORPUS_BYTES:
            continue
        total += len(data)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return total


def _path(folder: Path, target: str, label: str, data: bytes) -> Path:
    """Named by what must come of it: the class of the error, `read`, or `defect` for what was one once and must never be again."""
    return folder / target / f"{label}-{hashlib.sha256(data).hexdigest()[:10]}"
