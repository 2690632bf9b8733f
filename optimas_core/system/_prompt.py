"""A prompt is an instruction, a format (chat or completion) and demonstrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optimas_core.system._spaces import PromptFormat


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One worked example: the component's inputs and the output it should imitate."""

    inputs: Mapping[str, Any]
    output: str

    def to_json(self) -> dict[str, Any]:
        return {"inputs": dict(self.inputs), "output": self.output}


@dataclass(frozen=True, slots=True)
class Prompt:
    """The text part of a language-model component's configuration."""

    instruction: str
    format: PromptFormat = "chat"
    demonstrations: tuple[Demonstration, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "instruction": self.instruction,
            "format": self.format,
            "demonstrations": [item.to_json() for item in self.demonstrations],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Prompt:
        return cls(
            instruction=data["instruction"],
            format=data["format"],
            demonstrations=tuple(Demonstration(dict(item["inputs"]), item["output"]) for item in data["demonstrations"]),
        )

    def messages(self, inputs: Mapping[str, Any], output: str) -> list[tuple[str, str]]:
        """Chat turns as (role, content): the instruction as system turn, each demonstration as a user and an assistant turn."""
        turns = [("system", self.instruction)] if self.instruction else []
        for item in self.demonstrations:
            turns.append(("user", _fields(_in_order_of(inputs, item.inputs))))
            turns.append(("assistant", item.output))
        turns.append(("user", _fields(inputs)))
        return turns

    def text(self, inputs: Mapping[str, Any], output: str) -> str:
        """Raw completion text: the instruction, worked examples, then the open example, ending in the output's label."""
        label = f"{_label(output)}:"
        blocks = [self.instruction] if self.instruction else []
        for item in self.demonstrations:
            blocks.append(f"{_fields(_in_order_of(inputs, item.inputs))}\n{label} {item.output}")
        blocks.append(f"{_fields(inputs)}\n{label}")
        return "\n\n".join(blocks)


def _in_order_of(inputs: Mapping[str, Any], shown: Mapping[str, Any]) -> dict[str, Any]:
    """A demonstration's fields in the order of the open example's: stored as JSON they come back sorted by name."""
    names = [name for name in inputs if name in shown] + sorted(name for name in shown if name not in inputs)
    return {name: shown[name] for name in names}


def _fields(inputs: Mapping[str, Any]) -> str:
    return "\n".join(f"{_label(name)}: {_value(value)}" for name, value in inputs.items())


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _value(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return "\n".join(str(item) for item in value)
    return str(value)
