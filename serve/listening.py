"""Draw for a caller as long as it listens."""

from __future__ import annotations

import asyncio

from fastapi import Request

from serve.errors import ClientLeft
from serve.models import Models
from sidestep.requests import GenerateRequest, Picture


async def draw(request: Request, models: Models, wanted: GenerateRequest) -> list[Picture]:
    """Draw; raises ClientLeft if the client closes its connection, and drops what was queued."""
    address = request.client.host if request.client else ""
    drawing = asyncio.ensure_future(models.generate(wanted, address=address))
    leaving = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait((drawing, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not drawing.done():
            raise ClientLeft("the client closed its connection")
        return await drawing
    finally:
        drawing.cancel()
        leaving.cancel()


async def _disconnect(request: Request) -> None:
    """Return when the client closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
