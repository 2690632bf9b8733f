"""A Local Reward Function as three files: adapter.safetensors, heads.safetensors, config.json. No pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optimas_core.canonical import canonical_json, parse_json
from optimas_core.errors import ArtifactCorrupt
from optimas_core.rewards._heads import Head

if TYPE_CHECKING:
    from torch import Tensor

ADAPTER, HEADS, CONFIG = "adapter.safetensors", "heads.safetensors", "config.json"
_FORMAT = 1
_MAX_CONFIG_BYTES = 1 << 20
# A header names every tensor: a few hundred bytes each. The library would read one of 100 MB into many times that.
_MAX_HEADER_BYTES = 4 << 20
MAX_LORA_RANK = 1024


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
        described: dict[str, Any] = parse_json(files[CONFIG], max_bytes=_MAX_CONFIG_BYTES)
        number, l2 = described.pop("format"), described.pop("head_l2")
        if number != _FORMAT:
            raise ValueError(f"format {number!r} is unknown to this version, which reads {_FORMAT}")
        config = ModelConfig(**described | {"components": tuple(described["components"])})
        _check(config)
        for name in (HEADS, ADAPTER):
            _check_header(name, files[name])
        weights = safetensors.numpy.load(files[HEADS])
        heads = {name: Head(_vector(name, weights[name]), float(l2[name])) for name in config.components}
        return config, heads, safetensors.torch.load(files[ADAPTER])
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, safetensors.SafetensorError) as error:
        raise ArtifactCorrupt(f"the LRF cannot be read: {str(error)[:200]}.", remedy="Train it again.") from error


def require_same_tensors(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Raises ArtifactCorrupt unless `given` has the names and shapes of `expected`, and numbers only: PEFT would leave out in
    silence what it does not know."""
    wrong = [name for name in (*expected, *given) if name not in given or name not in expected or expected[name].shape != given[name].shape]
    wrong += [name for name, tensor in given.items() if not bool(tensor.isfinite().all())]
    if wrong:
        raise ArtifactCorrupt(f"the LRF's adapter does not fit its backbone at {wrong[0][:120]!r}.", remedy="Train it again.")


def _check(config: ModelConfig) -> None:
    texts = (config.rung, config.backbone, config.backbone_digest, config.precision, *config.components)
    counts = (config.max_tokens, config.lora_rank, config.lora_alpha)
    if not all(isinstance(text, str) for text in texts) or not all(type(count) is int and count > 0 for count in counts):
        raise TypeError("config.json has a value of another type")
    if config.rung not in ("frozen", "lora") or config.precision not in ("auto", "bf16", "fp32") or config.lora_rank > MAX_LORA_RANK:
        raise ValueError("config.json has a value that no LRF has")


def _check_header(name: str, data: bytes) -> None:
    """safetensors: eight bytes with the length of a JSON header, the header, the tensors."""
    size = int.from_bytes(data[:8], "little")
    if size > min(_MAX_HEADER_BYTES, len(data)):
        raise ValueError(f"{name} claims a header of {size} bytes")


def _vector(name: str, weights: np.ndarray) -> np.ndarray:
    if weights.ndim != 1 or weights.dtype != np.float64 or not np.isfinite(weights).all():
        raise ValueError(f"the head of {name[:80]!r} is no vector of numbers")
    return weights
