"""The limiter's laws: no window holds more than allowed, everybody waits out a pause, no place is ever lost."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimas_core.models._clock import SystemClock, VirtualClock
from optimas_core.models._limiter import LONGEST_PAUSE_S, WINDOW_S, EndpointLimiter, EndpointRegistry


def starts_of(limiter: EndpointLimiter, clock: VirtualClock, sizes: list[int], pause_at_s: float = -1.0) -> list[float]:
    """When attempts of these sizes, all asked for at once, begin."""

    async def one(tokens: int) -> float:
        await limiter.admit(tokens)
        return clock.now()

    async def pause_later() -> None:
        if pause_at_s >= 0:
            await clock.sleep(pause_at_s)
            limiter.pause(100.0)

    async def scene() -> list[float]:
        pausing = asyncio.create_task(pause_later())
        starts = await asyncio.gather(*(one(size) for size in sizes))
        await pausing
        return list(starts)

    return asyncio.run(scene())


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=25),
    requests=st.integers(1, 8),
    tokens=st.integers(20, 120),
    pause_at_s=st.sampled_from([-1.0, 0.0, 30.0, 61.0]),
)
def test_no_window_of_a_minute_holds_more_than_allowed(sizes: list[int], requests: int, tokens: int, pause_at_s: float) -> None:
    clock = VirtualClock()
    limiter = EndpointLimiter(requests_per_minute=requests, tokens_per_minute=tokens, clock=clock)
    starts = starts_of(limiter, clock, sizes, pause_at_s)
    assert len(starts) == len(sizes)
    for start in starts:
        inside = [i for i, other in enumerate(starts) if start <= other < start + WINDOW_S]
        assert len(inside) <= requests
        assert sum(sizes[i] for i in inside) <= tokens or len(inside) == 1


def test_without_bounds_nobody_waits() -> None:
    clock = VirtualClock()
    assert starts_of(EndpointLimiter(clock=clock), clock, [10_000] * 50) == [0.0] * 50


def test_tokens_that_were_not_used_are_given_back() -> None:
    clock = VirtualClock()
    limiter = EndpointLimiter(tokens_per_minute=100, clock=clock)

    async def scene() -> float:
        admission = await limiter.admit(100)
        limiter.settle(admission, 10)
        await limiter.admit(90)
        return clock.now()

    assert asyncio.run(scene()) == 0.0


def test_a_pause_holds_every_caller_also_those_already_waiting() -> None:
    clock = VirtualClock()
    limiter = EndpointLimiter(requests_per_minute=2, clock=clock)
    starts = starts_of(limiter, clock, [1, 1, 1, 1, 1], pause_at_s=30.0)
    assert starts[:2] == [0.0, 0.0]
    assert min(starts[2:]) == 130.0 and max(starts) <= 130.0 + 2 * WINDOW_S


def test_an_absurd_pause_is_cut_to_pieces() -> None:
    clock = VirtualClock()
    limiter = EndpointLimiter(clock=clock)
    limiter.pause(1e9)
    assert starts_of(limiter, clock, [1]) == [LONGEST_PAUSE_S]


def test_at_most_so_many_are_in_flight_first_come_first_served() -> None:
    limiter = EndpointLimiter(max_in_flight=3)
    inside, most, order = 0, 0, []

    async def one(number: int) -> None:
        nonlocal inside, most
        async with limiter.slot():
            order.append(number)
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.001)
            inside -= 1

    async def scene() -> None:
        await asyncio.gather(*(one(number) for number in range(12)))

    asyncio.run(scene())
    assert (most, order) == (3, list(range(12)))


def test_a_cancelled_waiter_loses_no_place() -> None:
    limiter = EndpointLimiter(max_in_flight=1)

    async def one() -> None:
        async with limiter.slot():
            await asyncio.sleep(0)

    async def scene() -> None:
        async with limiter.slot():
            tasks = [asyncio.create_task(one()) for _ in range(4)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            await asyncio.sleep(0)
        tasks[0].cancel()  # in the very moment in which the place was handed to it
        ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5.0)
        assert [type(end) for end in ended[:2]] == [asyncio.CancelledError] * 2 and ended[2:] == [None, None]

    asyncio.run(scene())
    asyncio.run(asyncio.wait_for(one(), 5.0))


def test_one_limiter_bounds_two_threads_with_their_own_loops() -> None:
    limiter = EndpointLimiter(max_in_flight=2)
    lock, inside, most = threading.Lock(), 0, 0

    async def one() -> None:
        nonlocal inside, most
        async with limiter.slot():
            with lock:
                inside += 1
                most = max(most, inside)
            await asyncio.sleep(0.002)
            with lock:
                inside -= 1

    async def scene() -> None:
        await asyncio.gather(*(one() for _ in range(10)))

    threads = [threading.Thread(target=asyncio.run, args=(scene(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    assert not any(thread.is_alive() for thread in threads)
    assert most == 2


def test_clients_of_one_endpoint_share_the_stricter_bounds_while_they_live() -> None:
    registry = EndpointRegistry()

    def ask(url: str, rpm: int | None, in_flight: int) -> EndpointLimiter:
        return registry.limiter(url, "KEY", requests_per_minute=rpm, tokens_per_minute=None, max_in_flight=in_flight, clock=SystemClock())

    one, two, other = ask("http://a/v1", None, 64), ask("http://a/v1", 10, 8), ask("http://b/v1", None, 64)
    assert one is two and one is not other
    assert (one.requests_per_minute, one.max_in_flight) == (10, 8)
    assert other.requests_per_minute is None
    del one, two
    gc.collect()
    assert ask("http://a/v1", None, 64).requests_per_minute is None


@pytest.mark.parametrize("bad", [{"requests_per_minute": 0}, {"tokens_per_minute": -1}, {"max_in_flight": 0}])
def test_a_bound_below_one_is_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        EndpointLimiter(**bad)  # type: ignore[arg-type]
