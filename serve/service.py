"""The BentoML service: the worker's lifecycle around the FastAPI app.

BentoML's supervisor imports this module too, only to read the service's configuration. So
nothing here loads a model or imports FastAPI, Gradio or an engine before a worker starts.
"""

from __future__ import annotations

import os
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any, Literal

# Before BentoML and Gradio are imported, which read them then: nobody is told who runs this.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import bentoml
from bentoml._internal.server.http import traffic
from bentoml.validators import ContentType
from uvicorn.config import HTTP_PROTOCOLS

from serve.settings import Settings
from serve.timeout import Timeout
from serve.tracing import bentoml_options, bentoml_tracer
from sidestep.requests import MAX_DEADLINE_MS

# BentoML names no protocol when it makes its server, so this one is what it gets.
HTTP_PROTOCOLS["auto"] = "serve.connections:PatientProtocol"
traffic.TimeoutMiddleware = Timeout  # found by name for each app

if TYPE_CHECKING:
    from fastapi import FastAPI, Response
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send


class WorkerApp:
    """An ASGI app that exists from the worker's start to its stop.

    BentoML gives it every path that is not its own, unknown ones included, so that all errors
    have our shape.
    """

    def __init__(self) -> None:
        """Make a place for the app."""
        self.app: FastAPI | None = None
        self._running = AsyncExitStack()

    async def start(self) -> None:
        """Load the model and start the app; raises InvalidModel if the model is damaged."""
        from serve import documents, openapi
        from serve.app import create_app
        from serve.connections import PatientProtocol
        from serve.loading import load_generators
        from serve.parent import end_with_parent

        # Engine, pool and event loop take turns at every picture. When one is busy, the others
        # wait for as long as a thread may hold the interpreter: 5 ms, unless told otherwise.
        sys.setswitchinterval(SWITCH_S)
        settings = Settings.from_environment()
        PatientProtocol.receive_s = settings.receive_s
        end_with_parent()
        generator, *others = load_generators(settings)
        app = create_app(generator, settings, *others)
        if settings.traces:
            app.state.models.tracer = bentoml_tracer()
        documents.add(app, NATIVE, openapi.NATIVE)
        await self._running.enter_async_context(app.router.lifespan_context(app))
        self.app = app

    async def stop(self) -> None:
        """Stop the app."""
        self.app = None
        await self._running.aclose()

    @property
    def ready(self) -> bool:
        """Whether pictures can be drawn."""
        return self.app is not None and self.app.state.models.ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the app answer."""
        assert self.app is not None, "a worker answers only after its start"
        # BentoML's own route to us is none of ours: metrics would count by its name.
        await self.app({k: v for k, v in scope.items() if k != "route"}, receive, send)

    def guard(self, other: ASGIApp) -> ASGIApp:
        """Put the app's guards around BentoML's own route."""
        from serve.app import guard_beside

        assert self.app is not None, "a worker answers only after its start"
        return guard_beside(self.app, other, Settings.from_environment())

    async def generate(self, values: dict[str, Any], asked: Request) -> Response:
        """Answer BentoML's own route with one picture, or with an error in our shape."""
        from serve.body import header_values
        from serve.errors import answer, translate
        from serve.listening import draw
        from serve.pictures import respond
        from sidestep.images import MEDIA_TYPES
        from sidestep.requests import GenerateRequest

        assert self.app is not None, "a worker answers only after its start"
        try:
            models = self.app.state.models
            with models.metrics.watched():
                wanted = GenerateRequest.parse({**header_values(asked), **values})
            pictures = await draw(asked, models, wanted)
            return respond(pictures, MEDIA_TYPES[wanted.format], {"Cache-Control": "no-store"})
        except Exception as error:
            return answer(translate(error))


class NativeGuard:
    """BentoML's middleware: its own routes pass what ours pass, see `serve.guards`."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap BentoML's app."""
        self._app = app
        self._guarded: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Guard what BentoML answers, probes aside; our own app guards itself.

        All that begins like it is guarded: BentoML's router also takes a line's end after it.
        """
        if scope["type"] != "http" or not scope["path"].startswith(BENTOML_ROUTES):
            await self._app(scope, receive, send)
            return
        if self._guarded is None:
            self._guarded = worker.guard(self._app)
        await self._guarded(scope, receive, send)


SWITCH_S = 0.0005
LONGEST_S = MAX_DEADLINE_MS / 1e3 + 60  # longer than any request, and than opening a model
NATIVE = "/bentoml/generate"
BENTOML_ROUTES = (NATIVE, "/schema.json")  # and probes: /livez, /readyz and /healthz
SETTINGS = Settings.from_environment()
worker = WorkerApp()


@bentoml.service(
    name="sidestep",
    workers=1,  # the queue and the page's sessions are in one process
    traffic={"timeout": LONGEST_S},  # BentoML's own is a minute
    metrics={"enabled": False},  # its labels are raw paths, and grow without bound
    logging={"access": {"enabled": False}},
    tracing=bentoml_options(SETTINGS.traces, SETTINGS.trace_percent),
)
@bentoml.asgi_app(worker, path="/")
class Sidestep:
    """Pictures from prompts with one network evaluation each."""

    @bentoml.on_startup
    async def start(self) -> None:
        """Load the model once, in the worker."""
        await worker.start()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Stop the app."""
        await worker.stop()

    @bentoml.api(route=NATIVE)
    async def generate(
        self,
        ctx: bentoml.Context,
        prompt: str,
        seed: int | None = None,
        model: str | None = None,
        format: Literal["png", "jpeg", "webp"] = "png",
    ) -> Annotated[bytes, ContentType("image/*")]:
        """Draw a prompt for BentoML's own clients."""
        values = {"prompt": prompt, "seed": seed, "model": model, "format": format}
        answer: Any = await worker.generate(values, ctx.request)
        ctx.response.status_code = answer.status_code  # BentoML sets it once more
        return answer  # type: ignore[no-any-return]

    async def __is_ready__(self) -> bool:
        """Answer BentoML's /readyz."""
        return worker.ready


service: Any = Sidestep
service.add_asgi_middleware(NativeGuard)
