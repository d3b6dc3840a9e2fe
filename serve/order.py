"""A request under way: its pictures come from other threads, and its caller wakes once."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import replace

from sidestep.requests import GenerateRequest, Picture


class Order:
    """Collects the pictures of a request; `put` and `fail` may be called from any thread.

    On a busy event loop each step from one future to the next costs a whole round of the loop.
    So threads count the pictures, and the loop hears of the last one alone.

    It does not know its jobs: their callbacks know it, and such a circle would keep every request's
    pixels until the garbage collector comes.
    """

    def __init__(self, request: GenerateRequest) -> None:
        """Begin an order of all pictures of a request, on the running event loop."""
        self.request = request
        self.dropped = ""  # what of the prompt did not fit
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._pictures: list[Picture | None] = [None] * request.count
        self._missing = request.count
        self._lock = threading.Lock()

    @property
    def over(self) -> bool:
        """Whether nobody waits for more: all is there, one picture failed, or the caller left."""
        return self._done.done()

    def put(self, place: int, picture: Picture) -> None:
        """Hand in picture `place` of the request."""
        self._pictures[place] = picture
        with self._lock:
            self._missing -= 1
            if self._missing:
                return
        self._tell(None)

    def fail(self, error: BaseException) -> None:
        """End the order; only the first error is told."""
        self._tell(error)

    async def pictures(self) -> list[Picture]:
        """Wait for all pictures, in order; raises what the first to fail raised."""
        await self._done
        return [replace(one, dropped=self.dropped) for one in self._pictures if one]

    def _tell(self, error: BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop is closed, and with it whoever waited
            self._loop.call_soon_threadsafe(self._end, error)

    def _end(self, error: BaseException | None) -> None:
        if self._done.done():
            return
        if error:
            self._done.set_exception(error)
        else:
            self._done.set_result(None)
