"""A model that runs in this process: an embedded one by name, or any Hugging Face causal-LM directory.

Calls that wait at the same time share a batch, which is what makes a small machine usable; `_batcher.py` groups them,
`_local_engine.py` decodes them. A request's answer does not depend on its batch, up to rounding: greedy decoding takes
the argmax, sampling draws its noise from the request's own seed and the step.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from optimas_core.errors import CallRejected, CallTimeout, EnvironmentNotReady, OptimasError, ServerFault
from optimas_core.models._batcher import Batcher
from optimas_core.models._local_engine import Continuation, Deliver, EncodedRequest, Engine
from optimas_core.models._local_prompt import prompt_tokens
from optimas_core.models._local_sampling import RowSampling
from optimas_core.models._types import ModelReply, ModelRequest, Price, well_formed
from optimas_core.models.embedded import EMBEDDED, embedded_path


class Local:
    """A `ModelClient` over transformers, on the CPU or a GPU.

    Args:
        model: an embedded name (`EMBEDDED`) or a directory that `from_pretrained` can load.
        name: what follows "local/" in `id`; the embedded name or the directory's last part if absent.
        max_batch: most requests decoded together.
        max_wait_s: how long a batch waits for company.
        device: a torch device; the first GPU if there is one, else the CPU, if absent.
        dtype: torch name of the weights' type.
        max_context_tokens: prompt and answer together; the model's own limit if absent.
        share_prefixes: read a beginning that several prompts share only once.
    """

    price: Price | None = Price(0.0, 0.0)

    def __init__(
        self,
        model: str | Path = "smollm2-135m-instruct",
        *,
        name: str | None = None,
        max_batch: int = 32,
        max_wait_s: float = 0.01,
        device: str | None = None,
        dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16",
        max_context_tokens: int | None = None,
        share_prefixes: bool = True,
    ) -> None:
        self._model = str(model)
        self._name = name or (self._model if self._model in EMBEDDED else Path(self._model).name)
        self._device = device
        self._dtype = dtype
        self._max_context_tokens = max_context_tokens
        self._share_prefixes = share_prefixes
        self._tokenizer: Any = None
        self._tokenizer_lock = threading.Lock()
        self._engine: Engine | None = None
        self._batcher: Batcher[EncodedRequest, Continuation] = Batcher(
            self._run,
            length=lambda request: len(request.tokens),
            group=lambda request: _answer_size(request.max_tokens),
            max_batch=max_batch,
            max_wait_s=max_wait_s,
        )

    @property
    def id(self) -> str:
        return f"local/{self._name}"

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Answer one request; share a batch with the others that wait.

        Raises:
            CallRejected: a prompt longer than the context, an empty one, or an adapter.
            CallTimeout: no answer within `deadline_s`.
            EnvironmentNotReady: the model cannot be loaded.
            ServerFault: the batch failed, e.g. out of memory.
        """
        started_s = time.monotonic()
        if self._tokenizer is None:
            await asyncio.to_thread(self._load_tokenizer)  # seconds of imports: keep the event loop free
        encoded = self._encode(request)
        left_s = request.deadline_s - (time.monotonic() - started_s)
        try:
            done = await asyncio.wait_for(self._batcher.submit(encoded), timeout=max(left_s, 0.0))
        except OptimasError:
            raise
        except TimeoutError:
            raise CallTimeout(
                f"{self.id} gave no answer within {request.deadline_s:g} s.",
                remedy="Raise deadline_s, or keep fewer calls in flight.",
            ) from None
        except Exception as error:
            # Most often out of memory, which another batch may not be.
            raise ServerFault(f"{self.id} failed on a batch: {type(error).__name__}: {error}.") from error
        return ModelReply(
            text=done.text,
            model=self.id,
            tokens_in=len(encoded.tokens),
            tokens_out=done.tokens_out,
            finish_reason=done.finish_reason,
            latency_s=time.monotonic() - started_s,
            usd=0.0,
        )

    async def complete_many(self, requests: Sequence[ModelRequest]) -> list[ModelReply | Exception]:
        """Answer many at once; result i belongs to request i, a failure stands in its place."""

        async def one(request: ModelRequest) -> ModelReply | Exception:
            try:
                return await self.complete(request)
            except Exception as error:  # the caller gets it in its place
                return error

        return list(await asyncio.gather(*(one(request) for request in requests)))

    async def check(self) -> None:
        """Make sure that the files are there and readable, without loading the weights.

        Raises:
            EnvironmentNotReady: unreadable model.
        """
        await asyncio.to_thread(self._check_files)

    def _check_files(self) -> None:
        directory = self._directory()
        weights = sorted(directory.glob("*.safetensors"))
        if not weights:
            raise _unreadable(directory, "it holds no *.safetensors")
        from safetensors import SafetensorError, safe_open

        for path in weights:
            try:
                with safe_open(path, framework="numpy"):  # reads the header and finds a cut file
                    pass
            except (OSError, SafetensorError) as error:
                raise _unreadable(directory, f"{path.name}: {error}") from error
        self._load_tokenizer()

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` as the model's own tokenizer counts them, without special tokens it would add."""
        return len(self._load_tokenizer().encode(well_formed(text), add_special_tokens=False, split_special_tokens=True))

    def _run(self, requests: Sequence[EncodedRequest], deliver: Deliver) -> None:
        """The batcher's work, in its thread; the first call loads the model."""
        if self._engine is None:
            self._engine = self._load_engine()
        self._engine.run(requests, deliver)

    def _load_engine(self) -> Engine:
        import torch

        directory = self._directory()
        device = self._device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            return Engine(
                directory,
                self._load_tokenizer(),
                device=device,
                dtype=self._dtype,
                share_prefixes=self._share_prefixes,
            )
        except Exception as error:  # tokenizers and safetensors raise types of their own
            raise _unreadable(directory, str(error)) from error

    def _load_tokenizer(self) -> Any:
        with self._tokenizer_lock:
            if self._tokenizer is None:
                from transformers import AutoConfig, AutoTokenizer

                directory = self._directory()
                try:
                    config: Any = AutoConfig.from_pretrained(directory, local_files_only=True)
                    tokenizer: Any = AutoTokenizer.from_pretrained(directory, local_files_only=True)
                except Exception as error:  # tokenizers raise types of their own
                    raise _unreadable(directory, str(error)) from error
                limit = getattr(config.get_text_config(), "max_position_embeddings", None)
                self._context_tokens: int = min(x for x in (self._max_context_tokens, limit, 1 << 20) if x)
                self._tokenizer = tokenizer  # last: complete() takes it as the sign that all is set
            return self._tokenizer

    def _directory(self) -> Path:
        if self._model in EMBEDDED:
            if EMBEDDED[self._model].kind != "causal-lm":
                raise EnvironmentNotReady(
                    f'"{self._model}" is an encoder: it cannot generate text.', remedy="Name a causal language model."
                )
            return embedded_path(self._model)
        directory = Path(self._model)
        if not (directory / "config.json").is_file():
            raise _unreadable(directory, "it is no directory with a config.json")
        return directory

    def _encode(self, request: ModelRequest) -> EncodedRequest:
        """Token ids of the request, checked against the context.

        Raises:
            CallRejected: too long, empty, or something a local model cannot do.
        """
        if request.adapter is not None:
            raise CallRejected(
                f'{self.id} loads no adapters, but the call names "{request.adapter}".',
                remedy="Serve the model and its adapters with vLLM, or remove the adapter.",
            )
        try:
            tokens = prompt_tokens(self._tokenizer, request)
        except Exception as error:  # the template is the model's own code: it may raise anything
            raise CallRejected(
                f"{self.id} cannot render these messages as a chat: {error}.",
                remedy="Use a model with a chat template, or a completion prompt.",
            ) from error
        sampling = request.sampling
        if not tokens or sampling.max_tokens < 1:
            raise CallRejected(
                f"{self.id} got a prompt of {len(tokens)} tokens and max_tokens {sampling.max_tokens}.",
                remedy="Both must be at least 1.",
            )
        if len(tokens) >= self._context_tokens:
            raise CallRejected(
                f"{self.id} got a prompt of {len(tokens)} tokens, its context holds {self._context_tokens}.",
                remedy="Shorten the prompt (fewer demonstrations or paragraphs).",
            )
        # Without a seed every call is a fresh draw.
        seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
        return EncodedRequest(
            tokens=tuple(tokens),
            max_tokens=min(sampling.max_tokens, self._context_tokens - len(tokens)),
            stop=sampling.stop,
            sampling=RowSampling(sampling.temperature, sampling.top_p, seed),
        )


def _answer_size(max_tokens: int) -> int:
    """Requests of one size share a batch: 64 tokens or fewer, 256 or fewer, and so on by factors of four."""
    size = 64
    while size < max_tokens:
        size *= 4
    return size


def _unreadable(directory: Path, reason: str) -> EnvironmentNotReady:
    return EnvironmentNotReady(
        f"unreadable model {directory}: {reason.strip().splitlines()[0]}.",
        remedy="Name a directory with config.json, a tokenizer and safetensors weights, or an embedded model.",
    )
