"""The page alone: the pictures come over HTTP from a service elsewhere."""

from __future__ import annotations

import asyncio

import uvicorn
from fastapi import FastAPI

from sidestep.address import url_of
from sidestep.client import Client
from sidestep.errors import InvalidRequest, ServiceUnavailable, SidestepError
from sidestep.model_info import ModelInfo
from ui.app import build, mount


def serve(client: Client, host: str, port: int) -> None:
    """Show the page of the service that `client` asks, until SIGINT or SIGTERM.

    Raises ServiceUnavailable where nothing answers there, InvalidRequest where its address is none
    or `host` and `port` cannot be listened on.
    """
    asyncio.run(_serve(client, host, port))


async def _serve(client: Client, host: str, port: int) -> None:
    async with client:
        app = page_of(client, await client.models())
        config = uvicorn.Config(
            app, host=host, port=port, log_level="error", ws="none", timeout_graceful_shutdown=3
        )
        try:
            listener = config.bind_socket()
        except SystemExit:  # uvicorn's answer to an address that is taken; its log says why
            message = f"cannot listen on {host}:{port}; choose another with --port"
            raise InvalidRequest(message, field="port") from None
        print(f"the page is ready: {url_of(host, port)} (Ctrl-C stops it)", flush=True)
        await _Server(config).serve([listener])


def page_of(client: Client, models: list[ModelInfo]) -> FastAPI:
    """Make an app that shows `models`, drawn by the service of `client`, at its root.

    Raises ServiceUnavailable where there are no models.
    """
    if not models:
        raise ServiceUnavailable("the service has no models")

    async def shown() -> list[ModelInfo]:
        try:
            return await client.models() or models
        except SidestepError:  # the page says so itself when it asks for pictures
            return models

    return mount(build(client.generate, models), "/", shown)


class _Server(uvicorn.Server):
    """Ends the connections that open pages hold when it is told to stop."""

    def handle_exit(self, sig: int, frame: object) -> None:
        self.config.app.state.close()  # type: ignore[union-attr]
        super().handle_exit(sig, frame)  # type: ignore[arg-type]
