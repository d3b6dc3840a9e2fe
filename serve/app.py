"""The FastAPI app: routes, page, documents and error shapes around the models."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from serve import documents
from serve.access_log import AccessLog, LogRequests
from serve.direct import DirectRoutes
from serve.errors import not_served
from serve.guards import Guards
from serve.metrics import CountRequests
from serve.models import Models
from serve.openai_images import make_router as openai_routes
from serve.page import LatePage
from serve.reloading import make_router as reload_routes
from serve.routes import make_router as our_routes
from serve.settings import Settings
from serve.signals import on_stop_signal
from sidestep import __version__
from sidestep.generator import Generator
from sidestep.model_info import ModelInfo

PAGE = "/ui"
TO_REFUSE_S = 1.0  # before the end of a stop, to answer what cannot be drawn any more
_BUILDING = threading.Lock()  # Gradio knows one page under construction in a process
TOLD_IN_HEADERS = (
    *("ETag", "Retry-After", "Server-Timing"),
    *("X-Predicted-Wait-Ms", "X-Prompt-Dropped", "X-Seed"),
)


def create_app(generator: Generator, settings: Settings, *others: Generator) -> FastAPI:
    """Make the app; its lifespan starts and stops the models, `app.state.models`.

    generator: the default model; `others` are drawn with where a request names them
    """
    models = Models([generator, *others], settings)
    page = LatePage(partial(_page, models))

    def stopping() -> None:
        page.close()
        # The server ends what is unanswered when its time is over, without a word.
        left_s = max(settings.grace_s - TO_REFUSE_S, settings.grace_s / 2)
        asyncio.get_running_loop().call_later(left_s, models.drain)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await models.start()
        try:
            with on_stop_signal(stopping):
                async with page.running():
                    yield
        finally:
            await models.stop()
            if app.state.log:
                await asyncio.to_thread(app.state.log.close)

    app = FastAPI(
        title="sidestep",
        description="Pictures from prompts with one network evaluation each.",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # BentoML has its own
    )
    app.state.models, app.state.log = models, None
    routers = [routes(models) for routes in (our_routes, openai_routes, reload_routes)]
    for router in routers:
        app.include_router(router)
    app.add_middleware(DirectRoutes, routers=routers)  # the innermost: what is added first
    app.add_middleware(Guards, settings=settings, metrics=models.metrics)
    _allow_origins(app, settings.cors_origins)
    app.add_middleware(CountRequests, requests=models.metrics.requests)
    if settings.access_log:
        app.state.log = AccessLog(settings.access_log, models.metrics.lost_lines)
        app.add_middleware(LogRequests, log=app.state.log)
    app.add_exception_handler(HTTPException, not_served)
    documents.install(app)
    if settings.keys:
        documents.tell_keys(app)
    app.mount(PAGE, page)
    return app


def guard_beside(app: FastAPI, other: ASGIApp, settings: Settings) -> ASGIApp:
    """Put the guards and logs of `app` around another app that answers beside it."""
    models: Models = app.state.models
    other = Guards(other, settings, models.metrics)
    other = CountRequests(other, models.metrics.requests)
    return LogRequests(other, app.state.log) if app.state.log else other


def _allow_origins(app: FastAPI, origins: str) -> None:
    """Answer browsers' preflights, and let pages of these origins read what pictures tell."""
    allowed = [origin.strip().rstrip("/") for origin in origins.split(",") if origin.strip()]
    if allowed:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=allowed,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=TOLD_IN_HEADERS,
        )


def _page(models: Models) -> FastAPI:
    """Build the page; Gradio is imported here and nowhere earlier."""

    async def shown() -> list[ModelInfo]:
        return [generator.info for generator in models.generators]

    now = [generator.info for generator in models.generators]
    with _BUILDING:
        import ui

        return ui.mount(ui.build(models.generate, now), PAGE, shown)
