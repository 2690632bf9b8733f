"""Preference data to Parquet and back: pairs for training, rollouts for labels, demonstrations and reports."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optimas_core.artifacts import Artifact, TableWriter, read_table, write_table
from optimas_core.canonical import canonical_json, parse_json
from optimas_core.errors import ArtifactCorrupt
from optimas_core.optimizers import Observation
from optimas_core.preferences import Collected
from optimas_core.rewards import RewardPair

PAIRS_FILE = "pairs.parquet"
ROLLOUTS_FILE = "rollouts.parquet"
SUMMARY_FILE = "summary.json"
_REMEDY = "Delete its artifact folder and resume the run."


class PreferenceTables:
    """Both tables of one stage, written piece by piece: what is in memory is a part's rows and the compressed files.

    Parts come in the order of (component, example id), so that equal data is equal bytes however it was cut.
    """

    def __init__(self, configuration: str, iteration: int, *, run_id: str, created_at: str) -> None:
        self._configuration = configuration
        self._iteration = iteration
        self._sinks = {"preferences": io.BytesIO(), "rollouts": io.BytesIO()}
        self._writers = {table: TableWriter(table, sink, run_id=run_id, created_at=created_at) for table, sink in self._sinks.items()}
        self.summary: dict[str, dict[str, int]] = {}

    def add(self, data: Collected) -> None:
        """Write a part's rows."""
        self._writers["preferences"].append(preference_rows(data, self._configuration, self._iteration))
        self._writers["rollouts"].append(rollout_rows(data, self._configuration))
        counted = {
            "inputs": len(data.inputs),
            "pairs": sum(len(record.pairs) for record in data.inputs),
            "rollouts_done": data.rollouts_done,
            "rollouts_saved": data.rollouts_saved,
        }
        before = self.summary.get(data.component, {})
        self.summary[data.component] = {name: before.get(name, 0) + value for name, value in counted.items()}

    def files(self) -> dict[str, bytes]:
        """The finished files. Nothing can be added after this."""
        for writer in self._writers.values():
            writer.close()
        return {PAIRS_FILE: self._sinks["preferences"].getvalue(), ROLLOUTS_FILE: self._sinks["rollouts"].getvalue()}


def preference_rows(data: Collected, configuration: str, iteration: int) -> list[dict[str, Any]]:
    """Rows of the preferences table, sorted, so that equal data is equal bytes."""
    rows = []
    for record in data.inputs:
        context = canonical_json(record.context)  # one text for all the input's pairs
        rows += [
            {
                "component": data.component,
                "example_id": record.example_id,
                "context_json": context,
                "chosen_json": canonical_json(pair.chosen.output),
                "rejected_json": canonical_json(pair.rejected.output),
                "reward_chosen": pair.chosen.mean,
                "reward_rejected": pair.rejected.mean,
                "se_chosen": pair.se_chosen,
                "se_rejected": pair.se_rejected,
                "n_chosen": len(pair.chosen.rewards),
                "n_rejected": len(pair.rejected.rewards),
                "configuration_digest": configuration,
                "iteration": iteration,
            }
            for pair in record.pairs
        ]
    return sorted(rows, key=lambda row: (row["component"], row["example_id"], row["chosen_json"], row["rejected_json"]))


def rollout_rows(data: Collected, configuration: str) -> list[dict[str, Any]]:
    """Rows of the rollouts table: every measured candidate output, missing ones with a null reward."""
    rows = [
        {
            "example_id": record.example_id,
            "component": data.component,
            "candidate": canonical_json(labels),
            "repeat": repeat,
            "inputs_json": canonical_json(record.context),
            "output_json": canonical_json(output),
            "reward": rollout.reward,
            "status": rollout.status,
            "tokens_in": rollout.tokens_in,
            "tokens_out": rollout.tokens_out,
            "usd": rollout.usd,
            "configuration_digest": configuration,
        }
        for record in data.inputs
        for labels, repeat, output, rollout in _with_labels(record)
    ]
    return sorted(rows, key=lambda row: (row["component"], row["example_id"], row["candidate"], row["repeat"]))


def _with_labels(record: Any) -> Iterable[tuple[tuple[str, ...], int, Mapping[str, Any], Any]]:
    labels = {candidate.labels[0]: candidate.labels for candidate in record.candidates}
    for first, repeat, output, rollout in record.rollouts:
        yield labels[first], repeat, output, rollout


def table_bytes(table: str, rows: Sequence[Mapping[str, Any]], run_id: str, created_at: str) -> bytes:
    return write_table(table, rows, run_id=run_id, created_at=created_at)


def read_pairs(artifact: Artifact, component: str | None = None) -> list[RewardPair]:
    """The artifact's pairs, of one component or of all.

    Raises:
        ArtifactCorrupt: damaged, or the columns of the two rewards are swapped.
    """
    file = f"{artifact.uri}/{PAIRS_FILE}"
    rows = read_table("preferences", _bytes(artifact, PAIRS_FILE), file=file)
    if any(row["reward_chosen"] <= row["reward_rejected"] for row in rows):  # ties give no pair
        raise ArtifactCorrupt(f"{file}: column reward_chosen is not above column reward_rejected.", remedy=_REMEDY)
    return [
        RewardPair(
            row["component"],
            row["example_id"],
            _object(row, "context_json", file),
            _object(row, "chosen_json", file),
            _object(row, "rejected_json", file),
            row["reward_chosen"],
            row["reward_rejected"],
        )
        for row in rows
        if component is None or row["component"] == component
    ]


@dataclass(frozen=True, slots=True)
class Measured:
    """One distinct candidate output on one example with the mean reward of its rollouts; `labels` names what produced it."""

    component: str
    example_id: str
    labels: tuple[str, ...]
    inputs: Mapping[str, Any]
    output: Mapping[str, Any]
    reward: float


def read_measured(artifact: Artifact, component: str | None = None) -> list[Measured]:
    """Every candidate output with at least one reward, in the table's order.

    Raises:
        ArtifactCorrupt: damaged.
    """
    file = f"{artifact.uri}/{ROLLOUTS_FILE}"
    grouped: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in read_table("rollouts", _bytes(artifact, ROLLOUTS_FILE), file=file):
        if (component is None or row["component"] == component) and row["reward"] is not None:
            grouped.setdefault((row["component"], row["example_id"], row["candidate"]), []).append(row)
    return [
        Measured(
            key[0],
            key[1],
            _labels(key[2], file),
            _object(rows[0], "inputs_json", file),
            _object(rows[0], "output_json", file),
            math.fsum(row["reward"] for row in rows) / len(rows),
        )
        for key, rows in grouped.items()
    ]


def _bytes(artifact: Artifact, name: str) -> bytes:
    if name not in artifact.names:
        raise ArtifactCorrupt(f"{artifact.uri} has no {name}.", remedy=_REMEDY)
    return artifact.read(name)


def _object(row: Mapping[str, Any], column: str, file: str) -> dict[str, Any]:
    """The fields that a component read or wrote; the table's reader has seen that it is JSON, if it is not null."""
    value = None if row[column] is None else json.loads(row[column])
    if not isinstance(value, dict):
        raise ArtifactCorrupt(f"{file}: column {column} has a value that is no object.", remedy=_REMEDY)
    return value


def _labels(text: str, file: str) -> tuple[str, ...]:
    try:
        names = parse_json(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ArtifactCorrupt(f"{file}: column candidate has a value that is no list of names.", remedy=_REMEDY)
    return tuple(names)


def observations(artifacts: Sequence[Artifact], component: str) -> list[Observation]:
    """Everything measured of one component, newest artifact first, as proposers may see it (training split only)."""
    return [
        Observation(item.example_id, item.inputs, item.output, item.reward)
        for artifact in artifacts
        for item in read_measured(artifact, component)
    ]
