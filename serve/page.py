"""The page at /ui, imported beside the running service.

Importing Gradio takes several seconds. Pictures over HTTP need not wait for it: the page loads
on a thread of its own, and a browser that asks earlier waits until it is there.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.errors import answer, translate
from sidestep.errors import ServiceUnavailable

logger = logging.getLogger("sidestep.serve")


class LatePage:
    """An ASGI app that answers with what `build` returns, as soon as that is built.

    `build` runs on a thread and returns an app that serves the full paths of its page, and that
    ends its open connections when its `state.close` is called; a failure is logged and answered
    with 503, and the rest of the service goes on.
    """

    def __init__(self, build: Callable[[], FastAPI]) -> None:
        """Keep `build` until `running` is entered."""
        self._build = build
        self._built: asyncio.Future[FastAPI] | None = None

    @property
    def built(self) -> bool:
        """Whether the page is there, or has failed."""
        return self._built is not None and self._built.done()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Build the page, and run its own startup and shutdown, while inside."""
        loop = asyncio.get_running_loop()
        self._built = loop.create_future()
        stop = asyncio.Event()
        serving = asyncio.ensure_future(self._serve(_on_thread(self._build), stop))
        try:
            yield
        finally:
            stop.set()
            if not self._built.done():
                serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    async def _serve(self, building: asyncio.Future[FastAPI], stop: asyncio.Event) -> None:
        """Hold the page's lifespan open, from its first moment to `stop`."""
        assert self._built is not None
        try:
            app = await building
            async with app.router.lifespan_context(app):
                self._built.set_result(app)
                # Gradio brings a million objects that live as long as the process. To look through
                # them for garbage holds up every request for a tenth of a second, now and then.
                gc.freeze()
                await stop.wait()
        except asyncio.CancelledError:
            self._built.cancel()
            raise
        except Exception as error:
            logger.error("the page at /ui cannot be shown", exc_info=error)
            if not self._built.done():
                told = ServiceUnavailable("the page cannot be shown; see the log")
                self._built.set_exception(told)
                self._built.exception()  # logged above

    def close(self) -> None:
        """End the connections that open pages hold, which a stopping server would wait for."""
        page = self._built
        if page is not None and page.done() and not page.cancelled() and not page.exception():
            page.result().state.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for the page, then let it answer; it sees the path as the client wrote it."""
        try:
            if self._built is None:
                raise ServiceUnavailable("the service is not started")
            app: ASGIApp = await asyncio.shield(self._built)
        except ServiceUnavailable as error:
            await answer(translate(error))(scope, receive, send)
            return
        await app({**scope, "root_path": scope.get("app_root_path", "")}, receive, send)


def _on_thread(build: Callable[[], FastAPI]) -> asyncio.Future[FastAPI]:
    """Run `build` on a daemon thread, which unlike a pool's holds up no shutdown."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[FastAPI] = loop.create_future()

    def hand_over(app: FastAPI | None, error: Exception | None) -> None:
        if future.done():
            return
        if app is not None:
            future.set_result(app)
        elif error is not None:
            future.set_exception(error)

    def work() -> None:
        app, failed = None, None
        try:
            app = build()
        except Exception as error:
            failed = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(hand_over, app, failed)

    threading.Thread(target=work, name="page", daemon=True).start()
    return future
