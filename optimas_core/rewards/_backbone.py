"""The shared backbone phi: any Hugging Face encoder or decoder, without dropout, with or without LoRA."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from optimas_core.errors import EnvironmentNotReady
from optimas_core.rewards._rows import Row, RowBuilder

if TYPE_CHECKING:
    from torch import Tensor

Resolve = Callable[[str], Path]
_DEFAULT_POSITIONS = 1 << 20  # a backbone with relative positions names no limit
_ATTENTION_WORDS = ("attn", "attention")


class Backbone:
    """phi. Reads rows of tokens, gives one vector each: the mean over tokens (encoder) or the last token's (decoder).

    Vectors are scaled to a root mean square of 1, so that one learning rate of the heads suits every backbone.
    The model is always in evaluation mode: dropout would also drop attention to its slow path.
    """

    def __init__(self, model: Any, tokenizer: Any, *, name: str, digest: str, decoder: bool, device: str, autocast: bool) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.digest = digest
        self.decoder = decoder
        self.device = device
        self.autocast = autocast
        self.lora = False

    @property
    def dim(self) -> int:
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def positions(self) -> int:
        """Longest row the backbone can read. RoBERTa-like models start counting after the padding index."""
        config = self.model.config.get_text_config()
        limit = int(getattr(config, "max_position_embeddings", None) or _DEFAULT_POSITIONS)
        offset = config.pad_token_id + 1 if "roberta" in config.model_type and config.pad_token_id is not None else 0
        return limit - offset

    def rows(self, max_tokens: int) -> RowBuilder:
        return RowBuilder(self.tokenizer, max_tokens=max_tokens, positions=self.positions, decoder=self.decoder)

    def encode(self, rows: Sequence[Row], *, length: int | None = None) -> Tensor:
        """[rows] -> [rows, dim] float32, padded on the right to the longest row or to `length`."""
        import torch

        width = length or max(len(row.ids) for row in rows)
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.full((len(rows), width), pad, dtype=torch.long)
        types = torch.zeros((len(rows), width), dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            ids[index, : len(row.ids)] = torch.tensor(row.ids, dtype=torch.long)
            types[index, : len(row.types)] = torch.tensor(row.types, dtype=torch.long)
            mask[index, : len(row.ids)] = 1
        inputs = {"input_ids": ids.to(self.device), "attention_mask": mask.to(self.device)}
        if rows[0].types:
            inputs["token_type_ids"] = types.to(self.device)
        with torch.autocast(self.device.partition(":")[0], torch.bfloat16, enabled=self.autocast):
            hidden = self.model(**inputs).last_hidden_state.float()
        weight = inputs["attention_mask"]
        if self.decoder:
            pooled = hidden[torch.arange(len(rows), device=hidden.device), weight.sum(dim=1) - 1]
        else:
            pooled = (hidden * weight.unsqueeze(-1)).sum(dim=1) / weight.sum(dim=1, keepdim=True)
        return pooled * pooled.pow(2).mean(dim=1, keepdim=True).clamp_min(1e-12).rsqrt()

    def add_lora(self, rank: int, alpha: int, seed: int) -> None:
        """Put LoRA on every linear layer of attention. Its first state changes nothing (B = 0)."""
        import torch
        from peft import LoraConfig, get_peft_model

        targets = attention_layers(self.model)
        with _quiet(), isolated_torch_rng(seed):
            config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets)
            self.model = get_peft_model(self.model, config).eval()
        for parameter in self.lora_parameters():
            parameter.data = parameter.data.to(torch.float32)
        self.lora = True

    def lora_parameters(self) -> list[Any]:
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def lora_state(self) -> dict[str, Tensor]:
        """A copy of the adapter's tensors on the CPU, by PEFT's own names; empty without LoRA."""
        if not self.lora:
            return {}
        from peft import get_peft_model_state_dict

        state = get_peft_model_state_dict(self.model)
        return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in state.items()}

    def set_lora_state(self, state: dict[str, Tensor]) -> None:
        if not self.lora:
            return
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(self.model, state)


def load_backbone(
    name: str,
    *,
    precision: Literal["auto", "bf16", "fp32"] = "auto",
    device: str | None = None,
    resolve: Resolve | None = None,
) -> Backbone:
    """Load phi from a model directory, or from an embedded model's name through `resolve`.

    Raises:
        EnvironmentNotReady: no such model, or a directory that transformers cannot read.
    """
    directory = _directory(name, resolve)
    import torch
    import transformers

    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    autocast = precision == "bf16" or (precision == "auto" and _bf16_is_native(where))
    try:
        config = transformers.AutoConfig.from_pretrained(directory, trust_remote_code=False)
        for key, value in config.to_dict().items():
            if ("dropout" in key or key.endswith("pdrop")) and isinstance(value, float):
                setattr(config, key, 0.0)
        dtype = torch.bfloat16 if autocast and where.startswith("cuda") else torch.float32
        with _quiet(), isolated_torch_rng(0):  # unused parts without weights (a pooler) are drawn at random
            model = transformers.AutoModel.from_pretrained(
                directory,
                config=config,
                dtype=dtype,
                attn_implementation=_attention(where),
                use_safetensors=True,  # never a pickle
                trust_remote_code=False,
            )
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise EnvironmentNotReady(
            f"the backbone in {directory} cannot be loaded: {error}.",
            remedy="Set lrf.backbone to an embedded name or to a directory with config.json, weights and tokenizer.",
        ) from error
    if config.is_encoder_decoder:
        raise EnvironmentNotReady(
            f"the backbone in {directory} is an encoder-decoder.", remedy="Use an encoder or a decoder as lrf.backbone."
        )
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return Backbone(
        model.eval().to(where),
        tokenizer,
        name=name,
        digest=backbone_digest(directory),
        decoder=_is_decoder(config.model_type),
        device=where,
        autocast=autocast,
    )


def attention_layers(model: Any) -> list[str]:
    """Names of the linear layers inside attention, found by the names of the modules around them; all linear layers
    of a model that names its attention otherwise."""
    import torch
    from transformers.pytorch_utils import Conv1D

    linear = [name for name, module in model.named_modules() if isinstance(module, (torch.nn.Linear, Conv1D))]
    linear = [name for name in linear if not name.startswith("pooler")]
    inside = [name for name in linear if any(word in name.lower() for word in _ATTENTION_WORDS)]
    return inside or linear


def backbone_digest(directory: Path) -> str:
    """SHA-256 (32 characters) over the files that decide a backbone's vectors: weights, configuration, tokenizer."""
    hasher = hashlib.sha256()
    names = sorted(path.name for path in directory.glob("*.safetensors"))
    for name in (*names, "config.json", "tokenizer.json"):
        path = directory / name
        if path.is_file():
            hasher.update(f"{name}\0".encode())
            with path.open("rb") as file:
                hasher.update(hashlib.file_digest(file, "sha256").digest())
    return hasher.hexdigest()[:32]


@contextmanager
def isolated_torch_rng(seed: int) -> Iterator[None]:
    """Libraries that draw from torch's global generator draw from `seed` here; the generator is put back after."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar for a load of a second, and no notice of a deprecated name that PEFT 0.21 asks transformers for."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
            yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _directory(name: str, resolve: Resolve | None) -> Path:
    if Path(name).is_dir():
        return Path(name)
    if resolve is None:
        from optimas_core.models.embedded import embedded_path

        resolve = embedded_path
    return resolve(name)


def _attention(device: str) -> str:
    """On a CPU the fused kernel's backward is the slow part at our lengths: a training step of MiniLM in bf16 took
    24, 34, 55 and 133 ms a row at 64, 96, 192 and 384 tokens with it, and 12, 19, 41 and 114 with plain matrix products."""
    return "sdpa" if device.startswith("cuda") else "eager"


def _is_decoder(model_type: str) -> bool:
    from transformers.models.auto import modeling_auto

    masked = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and model_type not in masked


def _bf16_is_native(device: str) -> bool:
    """Emulated bf16 is slower than fp32, so `auto` uses it only where the hardware has it."""
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("avx512_bf16")) if hasattr(torch.cpu, "get_capabilities") else False
