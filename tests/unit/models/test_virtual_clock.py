"""The virtual clock moves only in sleeps, in the order of their ends, and in any number of event loops."""

from __future__ import annotations

import asyncio

from optimas_core.models._clock import VirtualClock


def test_sleepers_wake_in_the_order_of_their_ends() -> None:
    clock = VirtualClock()
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.now()))

    async def scene() -> None:
        await asyncio.gather(sleeper("long", 3600.0), sleeper("short", 1.0), sleeper("middle", 60.0))

    asyncio.run(scene())
    assert woken == [("short", 1.0), ("middle", 60.0), ("long", 3600.0)]


def test_a_later_event_loop_goes_on_with_the_same_time() -> None:
    clock = VirtualClock(wall=1000.0)
    asyncio.run(clock.sleep(5.0))
    asyncio.run(clock.sleep(5.0))
    assert (clock.now(), clock.wall()) == (10.0, 1010.0)


def test_a_cancelled_sleeper_does_not_move_the_clock() -> None:
    clock = VirtualClock()

    async def scene() -> None:
        task = asyncio.create_task(clock.sleep(100.0))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await clock.sleep(1.0)
        await clock.sleep(200.0)

    asyncio.run(scene())
    assert clock.now() == 201.0
