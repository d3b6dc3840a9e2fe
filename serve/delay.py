"""How late the event loop is: what a busy machine adds to every request, in and out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

LOOK_EVERY_S = 0.02
KEPT = 0.5  # of the delay, at each look
# An answer waits for so many rounds of the loop: to be accepted, read, begun twice (BentoML's
# timeout has a task of its own), told of its pictures and written.
ROUNDS = 6


class LoopDelay:
    """Measures how late the running event loop comes to what is due."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """Begin without a delay; `clock` tells seconds."""
        self._clock = clock
        self._late_s = 0.0  # at the last looks
        self._next_look: float | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def seconds(self) -> float:
        """How long a round of the loop takes: the last ones, or this one if it takes longer."""
        if self._next_look is None:
            return 0.0
        return max(self._late_s, self._clock() - self._next_look)

    @property
    def of_an_answer(self) -> float:
        """How much of an answer's time is spent waiting for the loop."""
        return ROUNDS * self.seconds

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
            self.expect()
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()

    def expect(self) -> None:
        """Note when the next look is due."""
        self._next_look = self._clock() + LOOK_EVERY_S

    def look(self) -> None:
        """Note how late this look is."""
        assert self._next_look is not None
        self._late_s = max(self._clock() - self._next_look, KEPT * self._late_s)
