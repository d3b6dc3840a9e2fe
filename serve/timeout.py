"""BentoML's timeout of a request, but with a timer that ends when the answer begins.

BentoML's own waits in the event loop for as long as the longest request may take, whatever became
of the request, and each keeps some memory until then.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Timeout:
    """ASGI middleware: answers 503 when no answer begins within `timeout` seconds."""

    def __init__(self, app: ASGIApp, timeout: float) -> None:
        """Wrap `app`; named and called as BentoML does."""
        self._app, self._timeout = app, timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and end what takes too long."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = asyncio.timeout(self._timeout)

        async def beginning(message: Message) -> None:
            if not limit.expired():
                limit.reschedule(None)
            await send(message)

        try:
            async with limit:
                await self._app(scope, receive, beginning)
        except TimeoutError:
            if not limit.expired():
                raise
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        from serve.errors import answer, translate
        from sidestep.errors import ServiceUnavailable

        error = ServiceUnavailable(f"there was no answer within {self._timeout:g} seconds")
        await answer(translate(error))(scope, receive, send)
