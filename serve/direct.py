"""The routes that draw, found and run without a framework's machinery.

FastAPI makes their document, but what it does to find and call a function costs a refusal more
than the refusal itself; and under load refusals are most of what is answered.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.errors import AnsweringRoute


class DirectRoutes:
    """ASGI middleware: answers the POST routes of some routers, and passes on all else."""

    def __init__(self, app: ASGIApp, routers: Sequence[APIRouter]) -> None:
        """Wrap `app`; the functions of these routes take a request, and nothing from FastAPI."""
        self._app = app
        self._routes = {
            route.path: (route, route.answering(route.endpoint))
            for router in routers
            for route in router.routes
            if isinstance(route, AnsweringRoute) and "POST" in (route.methods or ())
        }
        assert not any(router.dependencies for router in routers), "they are called without"
        for route, _ in self._routes.values():
            assert not route.dependencies, f"{route.path} is called without its dependencies"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the app answer."""
        found = self._routes.get(scope["path"]) if scope["type"] == "http" else None
        if found is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["route"], handler = found
        response = await handler(Request(scope, receive, send))
        await response(scope, receive, send)
