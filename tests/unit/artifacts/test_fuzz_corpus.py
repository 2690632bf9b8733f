"""Inputs that benchmarks/fuzz.py found worth keeping are read again: each is read or refused as its name says, in bounded time and memory.

`python benchmarks/fuzz.py --seconds 300 --corpus tests/fixtures/fuzz_corpus` finds others; run.zip is the finished run whose
files some of them break. Where a change of ours means another outcome, delete the directory first: everything is made anew.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optimas_core.errors import OptimasError

ROOT = Path(__file__).resolve().parents[3]
CORPUS = ROOT / "tests" / "fixtures" / "fuzz_corpus"
TARGETS = sorted(path.name for path in CORPUS.iterdir() if path.is_dir())
# What it was made to read, even if nothing of it were worth keeping.
LEAST = {"table-preferences", "run-yaml", "manifest", "state", "ledger-record", "lease", "promotion", "stage-request", "lrf", "whole-run"}


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", TARGETS)
def test_every_kept_input_comes_to_what_it_came_to(name: str) -> None:
    readers = importlib.import_module("_fuzz.readers")
    judging = importlib.import_module("_fuzz.judging")
    run = importlib.import_module("_fuzz.whole_runs").base_run(CORPUS / "run.zip")
    target: Any = next(item for item in readers.targets(run) if item.name == name)
    with contextlib.suppress(OptimasError):
        target.read(target.seeds[0])  # what it imports is no memory of an input
    for seed in target.seeds if target.max_cpu_s <= 5 else target.seeds[:1]:
        found = judging.judge(target, seed)
        assert found.kind != "defect", found
    for path in sorted((CORPUS / name).iterdir()):
        found = judging.judge(target, path.read_bytes())
        said = found.error if found.kind == "refused" else found.kind
        expected = path.name.partition("-")[0]
        assert said == expected or (expected == "defect" and said != "defect"), (path.name, found)


def test_the_corpus_is_whole_and_small() -> None:
    assert set(TARGETS) >= LEAST
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert len(files) > 200 and sum(path.stat().st_size for path in files) < 300_000
