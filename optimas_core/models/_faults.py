"""What a scripted model can do wrong, in the same words for `Scripted` (in memory) and `LoopbackServer` (over HTTP)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

from optimas_core.errors import CallRejected
from optimas_core.models._types import ModelReply, ModelRequest


@dataclass(frozen=True, slots=True)
class RateLimit:
    """429; `retry_after_s` None sends no Retry-After."""

    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class ServerError:
    """A 5xx: 500, 502, 503, 529 …"""

    status: int = 500
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A 4xx other than 429: 400, 401, 403, 404, 408, 422 … with the server's message and code."""

    status: int = 400
    message: str = "scripted rejection"
    code: str = ""


@dataclass(frozen=True, slots=True)
class Stall:
    """Nothing for `seconds`, then the text."""

    seconds: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class CutStream:
    """200, the promised length, and the connection closed half way."""

    text: str = "cut"


@dataclass(frozen=True, slots=True)
class Junk:
    """200 and a body that is no JSON of the protocol."""

    text: str = "<html>gateway</html>"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A complete answer in which the model declines."""

    text: str = "I cannot help with that."


@dataclass(frozen=True, slots=True)
class Truncated:
    """A complete answer that ran into max_tokens."""

    text: str = ""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The connection is reset before any answer."""


Fault = RateLimit | ServerError | Rejected | Stall | CutStream | Junk | Refusal | Truncated | Disconnect
Step = str | ModelReply | Fault
# A function is given the request and the number of the try, from 0. A sequence is played once, a step for each try.
Script = Callable[[ModelRequest, int], Step] | Sequence[Step]


def is_billed(step: Step) -> bool:
    """Whether a vendor would charge for it: the model did its work, even where the answer was lost on the way."""
    return not isinstance(step, RateLimit | ServerError | Rejected | Disconnect)


class ScriptPlayer:
    """Plays a script and counts: `calls` are tries that reached the model, `billed` those it worked for."""

    def __init__(self, script: Script) -> None:
        if isinstance(script, str):
            raise TypeError("a script is a function or a sequence of steps; for one step write [step]")
        self._script = script
        self._lock = Lock()
        self.calls = 0
        self.billed = 0

    def step(self, request: ModelRequest, attempt: int) -> Step:
        """The next step.

        Raises:
            CallRejected: a sequence that is over.
        """
        with self._lock:
            number = self.calls
            self.calls += 1
        if callable(self._script):
            step = self._script(request, attempt)
        elif number < len(self._script):
            step = self._script[number]
        else:
            raise CallRejected(
                f"The script is over: it has {len(self._script)} steps, and this is call {number + 1}.",
                remedy="Give it more steps, or a function.",
            )
        if is_billed(step):
            with self._lock:
                self.billed += 1
        return step
