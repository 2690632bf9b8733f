"""What a speed program found: figures beside their targets, one table, notes. Printed for people, or as one JSON object."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number against its target. `key` is its name for programs. `value` None: not measured, and `why` says why."""

    key: str
    name: str
    value: float | None
    target: float
    better: Literal["higher", "lower"]
    unit: str = ""
    why: str = ""

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.target if self.better == "higher" else self.value <= self.target

    @property
    def bound(self) -> str:
        return f"{'at least' if self.better == 'higher' else 'at most'} {self.target:.3g}{self.unit}"

    @property
    def text(self) -> str:
        return f"not measured ({self.why})" if self.value is None else f"{self.value:.3g}{self.unit}"

    def line(self) -> str:
        verdict = {None: "", True: ": met", False: ": MISSED"}[self.met]
        return f"{self.name}: {self.text}; target {self.bound}{verdict}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table: the rows' key, its heading and how a value is written (a format specification)."""

    key: str
    heading: str
    spec: str = ""

    def text(self, row: Mapping[str, Any]) -> str:
        value = row.get(self.key)
        return "" if value is None else format(value, self.spec)


@dataclass(frozen=True)
class Found:
    """Everything a program says. `facts` are single numbers that are no target's figure."""

    figures: Sequence[Figure]
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "figures": [asdict(item) | {"met": item.met} for item in self.figures],
            "columns": [asdict(item) for item in self.columns],
            "rows": [dict(row) for row in self.rows],
            "facts": dict(self.facts),
            "notes": list(self.notes),
        }

    def show(self, *, as_json: bool) -> None:
        """Print it all."""
        if as_json:
            print(json.dumps(self.to_json(), indent=1))
            return
        cells = [[column.heading for column in self.columns], *([c.text(row) for c in self.columns] for row in self.rows)]
        widths = [max(len(line[index]) for line in cells) for index in range(len(self.columns))]
        for line in cells:
            first, *others = (
                text.ljust(width) if index == 0 else text.rjust(width) for index, (text, width) in enumerate(zip(line, widths, strict=True))
            )
            print("  ".join([first, *others]).rstrip())
        for name, value in self.facts.items():
            print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
        for note in self.notes:
            print(note)
        for figure in self.figures:
            print(figure.line())
