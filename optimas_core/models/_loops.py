"""One resource for each running event loop, closed when its loop ends.

An SDK client's connections belong to the event loop that opened them, while our clients live longer: `asyncio.run` may
be called many times. `asyncio.run` closes every suspended async generator before it closes its loop
(`loop.shutdown_asyncgens`), so holding the resource inside one is what closes it in time and in the right loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, TypeVar

R = TypeVar("R")


class PerLoop(Generic[R]):
    """`opened` makes the resource at the first `get` in a loop; `closed` ends it."""

    def __init__(self, opened: Callable[[], R], closed: Callable[[R], Awaitable[None]]) -> None:
        self._opened = opened
        self._closed = closed
        self._held: dict[asyncio.AbstractEventLoop, tuple[R, AsyncGenerator[R, None]]] = {}

    async def get(self) -> R:
        """The running loop's resource."""
        loop = asyncio.get_running_loop()
        if loop not in self._held:
            # A loop that ended without shutting its generators down cannot close anything any more: let go of it.
            for ended in [known for known in self._held if known.is_closed()]:
                del self._held[ended]
            keeper = self._keep(loop)
            # The generator runs to its yield without a suspension, so two tasks cannot both come here for one loop.
            self._held[loop] = (await anext(keeper), keeper)
        return self._held[loop][0]

    async def close(self) -> None:
        """Close the running loop's resource now; a later `get` opens a new one."""
        held = self._held.get(asyncio.get_running_loop())
        if held is not None:
            await held[1].aclose()

    async def _keep(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[R, None]:
        resource = self._opened()
        try:
            yield resource
        finally:
            self._held.pop(loop, None)
            await self._closed(resource)
