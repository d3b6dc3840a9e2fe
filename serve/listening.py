"""Draw for a caller as long as it listens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import Request

from serve.errors import ClientLeft
from serve.models import Models
from sidestep.requests import GenerateRequest, Picture


async def draw(request: Request, models: Models, wanted: GenerateRequest) -> list[Picture]:
    """Draw; raises ClientLeft if the client closes its connection, and drops what was queued."""
    address = request.client.host if request.client else ""
    with _listening(request):
        return await models.generate(wanted, address=address)


@contextmanager
def _listening(request: Request) -> Iterator[None]:
    """End the block with ClientLeft when the client closes its connection.

    The block stays in the caller's task, as in `asyncio.timeout`, so that an answer takes one
    round of the event loop and not three.
    """
    task, left = asyncio.current_task(), False
    assert task is not None

    async def watch() -> None:
        nonlocal left
        await _disconnect(request)
        left = True
        task.cancel()

    watching = asyncio.ensure_future(watch())
    try:
        yield
    except asyncio.CancelledError:
        if left and task.uncancel() == 0:
            raise ClientLeft("the client closed its connection") from None
        raise
    finally:
        watching.cancel()


async def _disconnect(request: Request) -> None:
    """Return when the client closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
