"""The page alone: the pictures come over HTTP from a service elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from sidestep.client import Client
from sidestep.errors import InvalidRequest, ServiceUnavailable
from sidestep.model_info import ModelInfo
from ui.app import build, mount


def serve(url: str, host: str, port: int) -> None:
    """Show the page of the service at `url` until SIGINT or SIGTERM.

    Raises ServiceUnavailable where nothing answers at `url`, InvalidRequest where `url` is no
    address or `host` and `port` cannot be listened on.
    """
    app = page_of(url, asyncio.run(_models(url)))
    config = uvicorn.Config(
        app, host=host, port=port, log_level="error", ws="none", timeout_graceful_shutdown=3
    )
    server = _Server(config)
    try:
        listener = config.bind_socket()
    except SystemExit:  # uvicorn's answer to an address that is taken; its log says why
        message = f"cannot listen on {host}:{port}; choose another with --port"
        raise InvalidRequest(message, field="port") from None
    print(f"the page of {url} is ready: http://{host}:{port} (Ctrl-C stops it)", flush=True)
    server.run([listener])


def page_of(url: str, models: list[ModelInfo]) -> FastAPI:
    """Make an app that shows `models`, drawn by the service at `url`, at its root."""
    client = Client(url)
    page = mount(build(client.generate, models), "/")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with client, page.router.lifespan_context(page):
            yield

    app = FastAPI(openapi_url=None, lifespan=lifespan)
    app.mount("/", page)
    app.state.close = page.state.close
    return app


class _Server(uvicorn.Server):
    """Ends the connections that open pages hold when it is told to stop."""

    def handle_exit(self, sig: int, frame: object) -> None:
        self.config.app.state.close()  # type: ignore[union-attr]
        super().handle_exit(sig, frame)  # type: ignore[arg-type]


async def _models(url: str) -> list[ModelInfo]:
    async with Client(url) as client:
        models = await client.models()
    if not models:
        raise ServiceUnavailable(f"the service at {url} has no models")
    return models
