"""What a model call is: a request, a reply, and the protocol every client follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

FinishReason = Literal["stop", "length", "refusal", "other"]


def well_formed(text: str) -> str:
    """`text` as UTF-8 can carry it: U+FFFD for half of a surrogate pair that stands alone, which no server and no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat. `content` is made well-formed."""

    role: Literal["system", "user", "assistant"]
    content: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "content", well_formed(self.content))

    def to_json(self) -> dict[str, str]:
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Sampling:
    """Decoding parameters. `temperature` 0 is greedy; `seed` matters only above 0."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "stop": list(self.stop),
            "seed": self.seed,
        }


class AttemptMeter(Protocol):
    """Accounts for tries whose answer was lost: the vendor may charge for them, and the reply will not tell."""

    def lost(self) -> None:
        """A try was sent and its answer lost."""

    async def again(self) -> None:
        """Asked before the next try after a lost one.

        Raises:
            BudgetExhausted: there is no room for another; the call ends with this.
        """


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call. Exactly one of `messages` (chat) and `prompt` (raw completion, made well-formed) is set.

    `adapter` names a LoRA adapter the server has loaded; `deadline_s` bounds the whole call, retries included; `meter` is not
    part of the request's identity.
    """

    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    adapter: str | None = None
    deadline_s: float = 120.0
    meter: AttemptMeter | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if bool(self.messages) == (self.prompt is not None):
            raise ValueError("a model request has either messages (chat) or a prompt (completion), not both or none")
        if self.prompt is not None:
            object.__setattr__(self, "prompt", well_formed(self.prompt))

    def to_json(self) -> dict[str, Any]:
        return {
            "messages": [message.to_json() for message in self.messages],
            "prompt": self.prompt,
            "sampling": self.sampling.to_json(),
            "adapter": self.adapter,
        }


@dataclass(frozen=True, slots=True)
class ModelReply:
    """What came back. `usd` is None when the model's price is unknown: not reported, never 0.

    `attempts` counts the tries, the successful one included. Tokens are the server's own count.
    """

    text: str
    model: str
    tokens_in: int
    tokens_out: int
    finish_reason: FinishReason
    latency_s: float
    usd: float | None
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens. A local model has Price(0, 0): no charge per token, which is known."""

    usd_per_million_in: float
    usd_per_million_out: float

    def usd(self, tokens_in: int, tokens_out: int) -> float:
        return (tokens_in * self.usd_per_million_in + tokens_out * self.usd_per_million_out) / 1e6


@runtime_checkable
class ModelClient(Protocol):
    """A model that can be asked. Cheap to construct: nothing is loaded or connected before the first call."""

    @property
    def id(self) -> str:
        """Stable name for keys, ledgers and reports, e.g. "openai/gpt-4o-mini". Never holds a secret."""

    @property
    def price(self) -> Price | None:
        """None: unknown. Settable: `prices` in run.yaml replaces what the client was made with."""

    @price.setter
    def price(self, price: Price | None) -> None: ...

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Answer one request, retrying only `TemporaryError`s within the deadline.

        Raises:
            TemporaryError: still failing at the deadline or after the last try.
            PermanentError: trying again cannot help.
        """

    async def complete_many(self, requests: Sequence[ModelRequest]) -> list[ModelReply | Exception]:
        """Answer many; result i belongs to request i; a failure stands in its place, never shifts the others."""

    async def check(self) -> None:
        """Make sure the model answers, without paying more than one token.

        Raises:
            EnvironmentNotReady: says what is wrong and how to mend it.
        """

    def count_tokens(self, text: str) -> int:
        """Tokens of `text`, or an upper estimate where the model's tokenizer is not at hand."""
