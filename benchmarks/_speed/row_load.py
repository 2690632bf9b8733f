"""Generates preference rows through the real stage, in a process of its own, and prints its memory as one line of JSON.

    python row_load.py --rows 100000

The system is a chooser among texts, a deterministic judge behind it: every candidate output has its own reward, so an example of
c candidates gives c (c - 1) / 2 pairs. Contexts have 1,000 characters and outputs 300, none alike, so nothing compresses well.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import tempfile
import threading
from pathlib import Path

from optimas_core import Choice, CompoundSystem, component
from optimas_core.artifacts import Workspace
from optimas_core.rollouts import Budget, RolloutEngine
from optimas_core.spec import BudgetSettings, DataSettings, PreferenceSettings, RunSettings
from optimas_core.stages import PreferenceRequest, StageContext, generate_preferences
from optimas_core.stages._preference_tables import PAIRS_FILE
from optimas_core.system import Example, Split

CANDIDATES = 8
PAIRS = CANDIDATES * (CANDIDATES - 1) // 2
_PAGE_MB = resource.getpagesize() / 2**20


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_MB


def words(seed: object, characters: int) -> str:
    drawn = random.Random(str(seed))
    return "".join(drawn.choices("abcdefghijklmnopqrstuvwxyz ", k=characters))


def choose(text: str, style: int = 0) -> str:
    return words((text[:40], style), 300)


def judge(choice: str) -> float:
    return random.Random(choice).random()


def system() -> CompoundSystem:
    parts = [
        component(choose, name="chooser", outputs="choice", space={"style": Choice(*range(CANDIDATES))}, blocking=False),
        component(judge, name="judge", outputs="score", blocking=False),
    ]
    return CompoundSystem(parts, outputs=["score"], metric=lambda example, outputs: float(outputs["score"]), name="rows")


class Peak:
    """The largest resident size, looked at every 20 ms: the kernel's own maximum counts what imports took for a moment."""

    def __init__(self) -> None:
        self.mb = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        self._over.set()
        self._thread.join()
        return self.mb

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.mb = max(self.mb, resident_mb())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, required=True)
    rows = parser.parse_args().rows
    import pyarrow.parquet as pq  # loaded before the base line is read

    examples = tuple(Example(f"e{number:06d}", {"text": words(number, 1000)}) for number in range(-(-rows // PAIRS)))
    built = system()
    with tempfile.TemporaryDirectory(prefix="rows-") as place:
        workspace = Workspace.open(place)
        run = workspace.run("rows")
        budget = Budget(BudgetSettings(), run)
        settings = RunSettings(
            system="rows:build", data=DataSettings(), concurrency=64, preferences=PreferenceSettings(candidates=CANDIDATES, rollouts=1)
        )
        context = StageContext(
            run=run,
            settings=settings,
            system=built,
            split=Split(examples, (), ()),
            engine=RolloutEngine(built, budget, calls=workspace.calls, concurrency=settings.concurrency),
            budget=budget,
            identity="rows",
            created_at="2026-01-01T00:00:00+00:00",
            producer="rows",
        )
        start = run.put_configuration(built.configuration.to_json())
        request = PreferenceRequest(0, ("chooser",), start, tuple(example.id for example in examples))
        before_mb, peak = resident_mb(), Peak()
        name = asyncio.run(generate_preferences(context, request))
        peak_mb = peak.stop()
        file = next(Path(place).rglob(f"{name}/{PAIRS_FILE}"))
        written, size = pq.ParquetFile(file).metadata.num_rows, file.stat().st_size
    print(json.dumps({"rows": written, "before_mb": before_mb, "peak_mb": peak_mb, "file_mb": size / 2**20}))


if __name__ == "__main__":
    main()
