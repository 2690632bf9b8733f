"""Models: one protocol, its clients, and the component that asks them. Clients load their libraries on the first call."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optimas_core.models._anthropic import Anthropic
    from optimas_core.models._llm import llm
    from optimas_core.models._openai import OpenAI
    from optimas_core.models._openai_compatible import OpenAICompatible
    from optimas_core.models._types import Message, ModelClient, ModelReply, ModelRequest, Price, Sampling
    from optimas_core.models.local import Local
    from optimas_core.models.scripted import Scripted

_WHERE = {
    "Anthropic": "_anthropic",
    "Local": "local",
    "Message": "_types",
    "ModelClient": "_types",
    "ModelReply": "_types",
    "ModelRequest": "_types",
    "OpenAI": "_openai",
    "OpenAICompatible": "_openai_compatible",
    "Price": "_types",
    "Sampling": "_types",
    "Scripted": "scripted",
    "llm": "_llm",
}

__all__ = [
    "Anthropic",
    "Local",
    "Message",
    "ModelClient",
    "ModelReply",
    "ModelRequest",
    "OpenAI",
    "OpenAICompatible",
    "Price",
    "Sampling",
    "Scripted",
    "llm",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
