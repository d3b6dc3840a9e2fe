"""The FastAPI app: routes, page, documents and error shapes around one studio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from serve import documents
from serve.errors import not_served
from serve.metrics import CountRequests
from serve.openai_images import make_router as openai_routes
from serve.page import LatePage
from serve.routes import make_router as our_routes
from serve.settings import Settings
from serve.signals import on_stop_signal
from serve.studio import Studio
from sidestep import __version__
from sidestep.generator import Generator

PAGE = "/ui"
TOLD_IN_HEADERS = (
    *("ETag", "Retry-After", "Server-Timing"),
    *("X-Predicted-Wait-Ms", "X-Prompt-Dropped", "X-Seed"),
)


def create_app(generator: Generator, settings: Settings) -> FastAPI:
    """Make the app; its lifespan starts and stops the studio, `app.state.studio`."""
    studio = Studio(generator, settings)
    page = LatePage(partial(_page, studio))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await studio.start()
        try:
            with on_stop_signal(page.close):
                async with page.running():
                    yield
        finally:
            await studio.stop()

    app = FastAPI(
        title="sidestep",
        description="Pictures from prompts with one network evaluation each.",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # BentoML has its own
    )
    app.state.studio = studio
    _allow_origins(app, settings.cors_origins)
    app.add_middleware(CountRequests, requests=studio.metrics.requests)
    app.add_exception_handler(HTTPException, not_served)
    for routes in (our_routes, openai_routes):
        app.include_router(routes(studio, body_limit=settings.body_limit))
    documents.install(app)
    app.mount(PAGE, page)
    return app


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


def _page(studio: Studio) -> FastAPI:
    """Build the page; Gradio is imported here and nowhere earlier."""
    import ui

    generator = studio.generator
    model = ui.ShownModel(generator.name, generator.engine.spec.image_size, generator.examples)
    return ui.mount(ui.build(studio.generate, [model]), PAGE)
