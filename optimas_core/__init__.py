"""Optimas for Kubernetes: compound AI systems improved one component at a time, each against its own aligned reward.

What a user writes imports from here. Importing it loads neither torch, kfp nor any model library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optimas_core._version import __version__
from optimas_core.system import (
    AdapterSpace,
    Choice,
    CompoundSystem,
    Configuration,
    Demonstration,
    Example,
    ModelChoice,
    NumberGrid,
    Prompt,
    PromptSpace,
    component,
)

if TYPE_CHECKING:
    from optimas_core.models import Anthropic, Local, OpenAI, OpenAICompatible, Scripted, llm


_FROM_MODELS = ("Anthropic", "Local", "OpenAI", "OpenAICompatible", "Scripted", "llm")

__all__ = [
    "AdapterSpace",
    "Anthropic",
    "Choice",
    "CompoundSystem",
    "Configuration",
    "Demonstration",
    "Example",
    "Local",
    "ModelChoice",
    "NumberGrid",
    "OpenAI",
    "OpenAICompatible",
    "Prompt",
    "PromptSpace",
    "Scripted",
    "__version__",
    "component",
    "llm",
]


def __getattr__(name: str) -> Any:
    if name not in _FROM_MODELS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from optimas_core import models

    return getattr(models, name)
