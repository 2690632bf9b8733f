"""docs/12-speed.md from the records in benchmarks/results: nothing on that page is written by hand but the remarks below.

`PYTHONPATH=benchmarks python -m _speed.page` writes it anew; a test compares it with the records.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from _speed.remarks import REMARKS
from _speed.table import Column, Figure

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "12-speed.md"
# The order of the page; the first sentence of each part.
SPEED = {
    "rollout_engine": "The rollout engine on a scripted endpoint of fixed latency, in a process of its own on the same machine.",
    "preference_labels": "Labels from racing, beside the paper's plain procedure, on a simulated system whose true rewards are known.",
    "local_generation": "The local model, many calls in flight against one at a time and against transformers' own batch.",
    "overhead": "What Optimas itself takes of a quickstart run with a small budget.",
    "startup": "The start of a process.",
    "resume": "Going on with a long run.",
    "memory_rows": "Memory of the stage that generates preference rows.",
}
HEAD = """# 12 Speed

This page is made from the records in `benchmarks/results` by `benchmarks/_speed/page.py`; `make bench` measures and
writes both. Only the remarks on what holds a figure are written by people.
"""


def records(results: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))}


def figures_of(record: Mapping[str, Any]) -> list[Figure]:
    """The figures of a record; those of a program that has none: no figure."""
    found = record["found"]
    names = {item.name for item in fields(Figure)}
    listed = found.get("figures", []) if isinstance(found, dict) else []
    return [Figure(**{key: value for key, value in item.items() if key in names}) for item in listed]


def render(results: Path) -> str:
    """The page."""
    kept = records(results)
    measured = [name for name in SPEED if name in kept]
    parts = [HEAD, *_machine([kept[name] for name in measured]), *_summary(kept, measured)]
    for name in measured:
        parts += _part(name, kept[name])
    parts += _others(kept)
    return "\n".join(parts).rstrip() + "\n"


def _summary(kept: Mapping[str, Mapping[str, Any]], measured: Sequence[str]) -> list[str]:
    lines = ["| figure | target | measured | | what holds it |", "|---|---|---|---|---|"]
    for name in measured:
        for figure in figures_of(kept[name]):
            verdict = {None: "", True: "met", False: "**missed**"}[figure.met]
            remark = REMARKS.get(f"{name}.{figure.key}", "")
            lines.append(f"| {_cell(figure.name)} | {figure.bound} | {_cell(figure.text)} | {verdict} | {remark} |")
    if missing := [name for name in SPEED if name not in kept]:
        lines += ["", f"No record yet: {', '.join(missing)}."]
    return [*lines, ""]


def _machine(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The machine and the versions; once if all records agree, which `make bench` sees to."""
    lines = []
    for about in _distinct([(record["machine"], record["versions"], record["threads"]) for record in found]):
        machine, versions, threads = about
        named = ", ".join(f"{name} {version}" for name, version in versions.items())
        lines += [
            f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GiB of memory, {machine['system']}; "
            f"OMP_NUM_THREADS {threads}.",
            f"Versions: {named}.",
            "",
        ]
    return lines


def _distinct(items: Sequence[Any]) -> list[Any]:
    return [item for index, item in enumerate(items) if item not in items[:index]]


def _part(name: str, record: Mapping[str, Any]) -> list[str]:
    found = record["found"]
    columns = [Column(**item) for item in found["columns"]]
    command = " ".join(["python", f"benchmarks/{name}.py", *record["arguments"]])
    lines = [
        f"## {name}",
        "",
        f"{SPEED[name]} `{command}`, {record['date']}, {record['seconds']:.0f} s, load of the machine before it {record['load']:.1f};",
        "its docstring says how to read it.",
        "",
        f"| {' | '.join(column.heading for column in columns)} |",
        f"|{'---|' * len(columns)}",
    ]
    lines += [f"| {' | '.join(_cell(column.text(row)) for column in columns)} |" for row in found["rows"]]
    said = [f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}" for key, value in found["facts"].items()]
    said += found["notes"]
    return [*lines, "", *(f"- {_cell(text)}" for text in said), *([""] if said else [])]


def _others(kept: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Programs whose rows are no matter of speed."""
    names = [name for name in kept if name not in SPEED]
    if not names:
        return []
    lines = ["## Other records", "", "| program | measured | seconds |", "|---|---|---|"]
    return [
        *lines,
        *(f"| [{name}](../benchmarks/results/{name}.json) | {kept[name]['date']} | {kept[name]['seconds']:.0f} |" for name in names),
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(render(RESULTS), encoding="utf-8")
