"""A Local Reward Function as three files: adapter.safetensors, heads.safetensors, config.json. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from optimas_core.canonical import canonical_json
from optimas_core.errors import ArtifactCorrupt
from optimas_core.rewards._heads import Head

if TYPE_CHECKING:
    from torch import Tensor

ADAPTER, HEADS, CONFIG = "adapter.safetensors", "heads.safetensors", "config.json"
_FORMAT = 1


@dataclass(frozen=True)
class ModelConfig:
    """What must be the same for the same scores, beside the weights."""

    rung: str
    backbone: str
    backbone_digest: str
    max_tokens: int
    precision: str
    lora_rank: int
    lora_alpha: int
    components: tuple[str, ...]


def pack(config: ModelConfig, heads: Mapping[str, Head], adapter: dict[str, Tensor]) -> dict[str, bytes]:
    """File name -> content; equal models have equal bytes. The adapter of the frozen rung holds no tensor."""
    import safetensors.numpy
    import safetensors.torch

    described = asdict(config) | {"format": _FORMAT, "head_l2": {name: head.l2 for name, head in heads.items()}}
    return {
        ADAPTER: safetensors.torch.save(adapter),
        HEADS: safetensors.numpy.save({name: head.weights for name, head in heads.items()}),
        CONFIG: canonical_json(described).encode(),
    }


def unpack(files: Mapping[str, bytes]) -> tuple[ModelConfig, dict[str, Head], dict[str, Tensor]]:
    """The reverse of `pack`.

    Raises:
        ArtifactCorrupt: a file is missing, unreadable, of an unknown format, or the files contradict each other.
    """
    import safetensors.numpy
    import safetensors.torch

    missing = [name for name in (ADAPTER, HEADS, CONFIG) if name not in files]
    if missing:
        raise ArtifactCorrupt(f"the LRF lacks {', '.join(missing)}.", remedy="Train it again.")
    try:
        described: dict[str, Any] = json.loads(files[CONFIG])
        number, l2 = described.pop("format"), described.pop("head_l2")
        if number != _FORMAT:
            raise ValueError(f"format {number!r} is unknown to this version, which reads {_FORMAT}")
        config = ModelConfig(**described | {"components": tuple(described["components"])})
        weights = safetensors.numpy.load(files[HEADS])
        heads = {name: Head(weights[name], float(l2[name])) for name in config.components}
        return config, heads, safetensors.torch.load(files[ADAPTER])
    except (ValueError, TypeError, KeyError, safetensors.SafetensorError) as error:
        raise ArtifactCorrupt(f"the LRF cannot be read: {error}.", remedy="Train it again.") from error
