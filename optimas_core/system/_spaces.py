"""Configuration spaces: what each knob of a component may be (V_k of the paper, Eq. 1)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from optimas_core.canonical import canonical_json
from optimas_core.errors import ConfigurationError, SystemDefinitionError

PromptFormat = Literal["chat", "completion"]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few values: a tool, a strategy, a switch."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        _require_distinct(values, "Choice")
        object.__setattr__(self, "values", tuple(values))

    def check(self, value: Any, where: str) -> None:
        _check_member(value, self.values, where)

    def to_json(self) -> dict[str, Any]:
        return {"kind": "choice", "values": list(self.values)}


@dataclass(frozen=True, slots=True)
class NumberGrid:
    """One of a few numbers, in ascending order: k of a retriever, a threshold, a token limit."""

    values: tuple[float, ...]

    def __init__(self, *values: float) -> None:
        if any(isinstance(v, bool) or not isinstance(v, int | float) or not math.isfinite(v) for v in values):
            raise SystemDefinitionError(f"NumberGrid{values} holds a value that is no number.", remedy="Use Choice for other values.")
        _require_distinct([float(value) for value in values], "NumberGrid")
        object.__setattr__(self, "values", tuple(sorted(values)))

    def check(self, value: Any, where: str) -> None:
        _check_member(value, self.values, where)

    def to_json(self) -> dict[str, Any]:
        return {"kind": "number_grid", "values": list(self.values)}


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """One of a few models, by the ids of their clients."""

    values: tuple[str, ...]

    def __init__(self, *models: str) -> None:
        if any(not isinstance(model, str) for model in models):
            raise SystemDefinitionError(f"ModelChoice{models} names no ids.", remedy="Give the ids of clients: client.id.")
        _require_distinct(models, "ModelChoice")
        object.__setattr__(self, "values", tuple(models))

    def check(self, value: Any, where: str) -> None:
        _check_member(value, self.values, where)

    def to_json(self) -> dict[str, Any]:
        return {"kind": "model_choice", "values": list(self.values)}


@dataclass(frozen=True, slots=True)
class PromptSpace:
    """A prompt: its instruction (free text), its format and its demonstrations may change, each if named here."""

    instruction: bool = True
    formats: tuple[PromptFormat, ...] = ("chat", "completion")
    demonstrations: int = 3
    max_instruction_chars: int = 4000

    def check(self, value: Any, where: str) -> None:
        if not isinstance(value, dict) or set(value) != {"instruction", "format", "demonstrations"}:
            raise ConfigurationError(f"{where} is not a prompt.", remedy="Give an object with instruction, format and demonstrations.")
        if not isinstance(value["instruction"], str) or len(value["instruction"]) > self.max_instruction_chars:
            raise ConfigurationError(
                f"{where}.instruction is not a text of at most {self.max_instruction_chars} characters.",
                remedy="Shorten it or raise max_instruction_chars.",
            )
        if value["format"] not in self.formats:
            raise ConfigurationError(
                f"{where}.format = {value['format']!r} is outside its space {list(self.formats)!r}.",
                remedy="Choose one of these, or add it to the space's formats.",
            )
        shown = value["demonstrations"]
        if not isinstance(shown, list | tuple) or not all(_is_demonstration(item) for item in shown):
            raise ConfigurationError(
                f"{where}.demonstrations is no list of demonstrations.",
                remedy="Each is an object with inputs and output.",
            )
        if len(shown) > self.demonstrations:
            raise ConfigurationError(
                f"{where} has {len(shown)} demonstrations, its space allows {self.demonstrations}.",
                remedy="Drop some, or raise the space's demonstrations.",
            )

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "prompt",
            "instruction": self.instruction,
            "formats": list(self.formats),
            "demonstrations": self.demonstrations,
        }


@dataclass(frozen=True, slots=True)
class AdapterSpace:
    """A LoRA adapter on `base`; the value is an adapter's name, or None for the base model. Declared now; no optimizer of
    this version changes it."""

    base: str
    rank: int = 32

    def check(self, value: Any, where: str) -> None:
        if value is not None and not isinstance(value, str):
            raise ConfigurationError(f"{where} is {value!r}, not an adapter's name.", remedy="Give a name or null.")

    def to_json(self) -> dict[str, Any]:
        return {"kind": "adapter", "base": self.base, "rank": self.rank}


Space = Choice | NumberGrid | ModelChoice | PromptSpace | AdapterSpace
DiscreteSpace = Choice | NumberGrid | ModelChoice


def _is_demonstration(value: Any) -> bool:
    return (
        isinstance(value, Mapping) and isinstance(value.get("inputs"), Mapping) and isinstance(value.get("output"), str) and len(value) == 2
    )


def _check_member(value: Any, values: Sequence[Any], where: str) -> None:
    if isinstance(value, Mapping) and "per_input" in value:  # chosen for each input at run time by the named LRF
        several, lrf = value["per_input"], value.get("lrf")
        if not isinstance(several, list | tuple) or not several or not isinstance(lrf, str):
            raise ConfigurationError(f"{where} names no values to choose among.", remedy="Give them as a list, and the name of an LRF.")
        for item in several:
            if isinstance(item, Mapping) and "per_input" in item:
                raise ConfigurationError(f"{where} is a choice among choices.", remedy="Give the values themselves.")
            _check_member(item, values, where)
        return
    if not any(_same(value, item) for item in values):
        raise ConfigurationError(f"{where} = {value!r} is outside its space {list(values)!r}.", remedy="Choose one of the values.")


def _same(value: Any, item: Any) -> bool:
    """Equal as numbers or as JSON: a tuple of the space comes back from a file as a list."""
    if isinstance(value, bool) or isinstance(item, bool):
        return value is item
    try:
        return bool(value == item) or canonical_json(value) == canonical_json(item)
    except (TypeError, ValueError):
        return False


def _require_distinct(values: Sequence[Any], kind: str) -> None:
    if not values:
        raise SystemDefinitionError(f"{kind}() has no values.", remedy="Name the values it may take.")
    try:
        texts = {canonical_json(value) for value in values}
    except (TypeError, ValueError) as error:
        raise SystemDefinitionError(
            f"{kind}{tuple(values)!r} holds a value JSON cannot hold: {error}.",
            remedy="Name it by a text and look it up in the component.",
        ) from None
    if len(texts) != len(values):
        raise SystemDefinitionError(f"{kind}{tuple(values)!r} names a value twice.", remedy="Name each once.")
