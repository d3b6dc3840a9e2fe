"""How late the event loop is: what a busy machine adds to every request, in and out."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

LOOK_EVERY_S = 0.05
KEPT = 0.8  # of the delay, at each look


class LoopDelay:
    """Measures the event loop's delay while it runs; `seconds` falls slowly after a peak."""

    def __init__(self) -> None:
        """Begin without a delay."""
        self.seconds = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look, on the running loop."""
        self._task = asyncio.ensure_future(self._watch())

    async def stop(self) -> None:
        """Look no more."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(LOOK_EVERY_S)
            late_s = time.perf_counter() - began - LOOK_EVERY_S
            self.seconds = max(late_s, KEPT * self.seconds)
