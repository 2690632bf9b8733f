"""What a task is given has the type that its component declares, also inside a loop.

Kubeflow's driver refuses anything else, and only when the task is about to start: `expect NUMBER_INTEGER, got string`. The compiler lets
the item of a loop over a plain `list` pass as STRING, and `kfp.local` hands on whatever there is, so both are silent.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

COMPILED = sorted((Path(__file__).resolve().parents[3] / "pipelines").glob("*.yaml"))
# A whole number may be given where a fraction is declared.
TAKEN = {"NUMBER_DOUBLE": {"NUMBER_DOUBLE", "NUMBER_INTEGER"}}


def types(part: dict[str, Any], side: str) -> dict[str, str]:
    parameters = (part.get(f"{side}Definitions") or {}).get("parameters") or {}
    return {name: declared["parameterType"] for name, declared in parameters.items()}


def wires(body: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(task and parameter, type declared, type given) of every parameter that comes from another parameter."""
    components = body["components"]
    for group in (body["root"], *components.values()):
        tasks = group.get("dag", {}).get("tasks", {})
        for name, task in tasks.items():
            declared = types(components[task["componentRef"]["name"]], "input")
            for parameter, source in task.get("inputs", {}).get("parameters", {}).items():
                if parameter not in declared:  # a setting of the pod, such as its limits: no input of the component
                    continue
                if "componentInputParameter" in source:
                    given = types(group, "input")[source["componentInputParameter"]]
                elif "taskOutputParameter" in source:
                    producer = tasks[source["taskOutputParameter"]["producerTask"]]
                    given = types(components[producer["componentRef"]["name"]], "output")[
                        source["taskOutputParameter"]["outputParameterKey"]
                    ]
                else:
                    continue  # a constant, which the compiler checks
                yield f"{name}.{parameter}", declared[parameter], given


@pytest.mark.parametrize("path", COMPILED, ids=lambda path: path.stem)
def test_every_task_is_given_the_types_it_declares(path: Path) -> None:
    found = list(wires(next(yaml.safe_load_all(path.read_text(encoding="utf-8")))))
    assert found
    assert [wire for wire in found if wire[2] not in TAKEN.get(wire[1], {wire[1]})] == []
