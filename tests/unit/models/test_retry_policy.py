"""Only what is temporary is tried again, with jitter, Retry-After and a deadline; on a clock that takes no time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimas_core.errors import (
    AuthenticationFailed,
    CallRejected,
    CallTimeout,
    FormatError,
    RateLimited,
    ServerFault,
    TemporaryError,
)
from optimas_core.models._clock import VirtualClock
from optimas_core.models._limiter import EndpointLimiter
from optimas_core.models._retry import RetryPolicy, call_with_retries

Outcome = Exception | str


class Scene:
    """A call whose tries end as told, on a virtual clock; notes when each try began."""

    def __init__(self, *outcomes: Outcome, took_s: float = 0.0) -> None:
        self.clock = VirtualClock()
        self.limiter = EndpointLimiter(clock=self.clock)
        self.outcomes = list(outcomes)
        self.began_s: list[float] = []
        self.took_s = took_s

    def run(self, *, deadline_s: float = 120.0, policy: RetryPolicy | None = None) -> str:
        return asyncio.run(
            call_with_retries(
                self._attempt,
                where="scene",
                deadline_s=deadline_s,
                policy=policy or RetryPolicy(),
                limiter=self.limiter,
                reserve_tokens=1,
                tokens_of=len,
                clock=self.clock,
                rng=random.Random(7),
            )
        )

    async def _attempt(self, number: int, timeout_s: float) -> str:
        self.began_s.append(self.clock.now())
        await self.clock.sleep(self.took_s)
        outcome = self.outcomes[min(number, len(self.outcomes) - 1)]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def test_a_temporary_fault_is_tried_again_until_it_answers() -> None:
    scene = Scene(ServerFault("a"), RateLimited("b"), "yes")
    assert scene.run() == "yes"
    assert len(scene.began_s) == 3


@pytest.mark.parametrize(
    "outcome", [AuthenticationFailed("no"), CallRejected("no"), FormatError("no"), ValueError("defect"), KeyError("k")]
)
def test_reference_defect_8_other_exceptions_are_raised_at_once(outcome: Exception) -> None:
    """The reference implementation tried 100 times, 3 s apart, whatever had been raised."""
    scene = Scene(outcome)
    with pytest.raises(type(outcome)):
        scene.run()
    assert len(scene.began_s) == 1 and scene.clock.now() == 0.0


def test_reference_defect_8_a_lasting_fault_is_given_up_soon() -> None:
    scene = Scene(ServerFault("down"))
    with pytest.raises(ServerFault, match="down"):
        scene.run(policy=RetryPolicy(max_attempts=6), deadline_s=1000.0)
    assert len(scene.began_s) == 6
    assert scene.clock.now() <= 0.5 + 1 + 2 + 4 + 8
    gaps = [later - sooner for sooner, later in zip(scene.began_s, scene.began_s[1:], strict=False)]
    assert len(set(gaps)) == len(gaps), "waits without jitter bring all callers back in one moment"


def test_retry_after_is_the_least_that_is_waited() -> None:
    scene = Scene(RateLimited("slow down", retry_after_s=20.0), "yes")
    assert scene.run() == "yes"
    assert 20.0 <= scene.began_s[1] <= 20.5


def test_a_retry_after_beyond_the_deadline_fails_now_and_says_why() -> None:
    scene = Scene(RateLimited("come back tomorrow", retry_after_s=500.0), "yes")
    with pytest.raises(CallTimeout, match="come back tomorrow") as caught:
        scene.run(deadline_s=100.0)
    assert isinstance(caught.value.__cause__, RateLimited)
    assert scene.clock.now() == 0.0


def test_the_deadline_covers_all_tries_together() -> None:
    scene = Scene(ServerFault("slow"), took_s=4.0)
    with pytest.raises(CallTimeout) as caught:
        scene.run(deadline_s=10.0)
    assert isinstance(caught.value.__cause__, ServerFault)
    assert 1 < len(scene.began_s) <= 3
    assert scene.clock.now() <= 14.0


def test_a_hanging_attempt_is_cut_off_in_real_time() -> None:
    scene = Scene("never")

    async def hang(number: int, timeout_s: float) -> str:
        await asyncio.Event().wait()
        return "never"

    scene._attempt = hang  # type: ignore[method-assign]
    with pytest.raises(CallTimeout, match="scene did not answer within"):
        scene.run(deadline_s=0.02, policy=RetryPolicy(max_attempts=1))


@given(attempt=st.integers(1, 200), seed=st.integers(0, 2**32), asked_s=st.none() | st.floats(0.0, 1e4))
def test_the_wait_lies_between_its_bounds(attempt: int, seed: int, asked_s: float | None) -> None:
    policy = RetryPolicy(base_s=0.5, cap_s=30.0)
    wait_s = policy.wait_s(attempt, RateLimited("x", retry_after_s=asked_s), random.Random(seed))
    if asked_s is None:
        assert 0.0 <= wait_s <= min(30.0, 0.5 * 2.0 ** min(attempt - 1, 60))
    else:
        assert asked_s <= wait_s <= asked_s + 0.5


@pytest.mark.parametrize(
    "impossible", [lambda: RetryPolicy(max_attempts=0), lambda: RetryPolicy(base_s=-1.0), lambda: RetryPolicy(cap_s=-1)]
)
def test_an_impossible_policy_is_refused(impossible: Callable[[], RetryPolicy]) -> None:
    with pytest.raises(ValueError, match="impossible"):
        impossible()


def test_retrying_follows_the_class_alone() -> None:
    class NewKindOfFault(TemporaryError):
        """One that this file has never heard of."""

    assert Scene(NewKindOfFault("x"), "yes").run() == "yes"
