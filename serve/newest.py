"""Of one client's requests that supersede each other, only the newest is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from sidestep.errors import Superseded

T = TypeVar("T")


class Newest(Generic[T]):
    """Runs one coroutine per client; a newer one ends an older one that has not returned."""

    def __init__(self) -> None:
        """Begin with no client."""
        self._tasks: dict[str, asyncio.Task[T]] = {}

    async def run(self, client: str, work: Coroutine[Any, Any, T]) -> T:
        """Run `work`; raises Superseded if `run` is called again for this client meanwhile."""
        if older := self._tasks.get(client):
            older.cancel()  # first, so that it has left the queue when the newer one asks for room
        task = self._tasks[client] = asyncio.ensure_future(work)
        try:
            return await task
        except asyncio.CancelledError:
            mine = asyncio.current_task()
            if self._tasks.get(client) is task or (mine and mine.cancelling()):
                raise
            raise Superseded("a newer request of the same client replaced this one") from None
        finally:
            task.cancel()
            if self._tasks.get(client) is task:
                del self._tasks[client]
