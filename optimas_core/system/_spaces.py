"""Configuration spaces: what each knob of a component may be (V_k of the paper, Eq. 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

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

    values: tuple[float | int, ...]

    def __init__(self, *values: float | int) -> None:
        _require_distinct(values, "NumberGrid")
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
            raise SystemDefinitionError(f"NumberGrid{values} holds a value that is no number.", remedy="Use Choice for other values.")
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
            raise ConfigurationError(
                f"{where} is not a prompt.", remedy="Give an object with instruction, format and demonstrations."
            )
        if not isinstance(value["instruction"], str) or len(value["instruction"]) > self.max_instruction_chars:
            raise ConfigurationError(
                f"{where}.instruction is not a text of at most {self.max_instruction_chars} characters.",
                remedy="Shorten it or raise max_instruction_chars.",
            )
        if value["format"] not in ("chat", "completion"):
            raise ConfigurationError(f"{where}.format is {value['format']!r}.", remedy="Use 'chat' or 'completion'.")

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


def _check_member(value: Any, values: Sequence[Any], where: str) -> None:
    if not any(value == item and isinstance(value, bool) == isinstance(item, bool) for item in values):
        raise ConfigurationError(f"{where} = {value!r} is outside its space {list(values)!r}.", remedy="Choose one of the values.")


def _require_distinct(values: Sequence[Any], kind: str) -> None:
    if not values:
        raise SystemDefinitionError(f"{kind}() has no values.", remedy="Name the values it may take.")
    if len({repr(value) for value in values}) != len(values):
        raise SystemDefinitionError(f"{kind}{tuple(values)!r} names a value twice.", remedy="Name each once.")
