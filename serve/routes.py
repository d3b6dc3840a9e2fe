"""The public routes of our own; `serve.openai_images` has OpenAI's."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from serve import openapi
from serve.body import header_values, read_object
from serve.caching import FRESH, NEVER, OWN, entity_tag, matches
from serve.callers import current
from serve.errors import AnsweringRoute
from serve.listening import draw
from serve.metrics import CONTENT_TYPE
from serve.models import Models
from serve.negotiation import JSON, MULTIPART, negotiate
from serve.pictures import respond
from serve.query import read_query
from sidestep.errors import ServiceUnavailable
from sidestep.requests import GenerateRequest

ICON = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 4 4'>"
    "<path fill='royalblue' d='M0 2h2v2H0zM2 0h2v2H2z'/></svg>"
)


def make_router(models: Models) -> APIRouter:
    """Make the routes that draw with `models`."""
    router = APIRouter(route_class=AnsweringRoute)

    @router.post("/generate", **openapi.GENERATE)
    async def generate(request: Request) -> Response:
        """Draw a prompt. Accept chooses the picture's bytes, JSON with base64 or multipart."""
        with models.metrics.watched():
            values = {**header_values(request), **await read_object(request)}
            wanted, media_type = _negotiate(request, GenerateRequest.parse(values))
        pictures = await draw(request, models, wanted)
        return respond(pictures, media_type, {"Cache-Control": NEVER})

    @router.get("/generate", **openapi.GET_GENERATE)
    async def get_generate(request: Request) -> Response:
        """Draw a prompt at an address. With a seed the picture may be cached."""
        with models.metrics.watched():
            wanted = GenerateRequest.parse({**header_values(request), **read_query(request)})
            wanted, media_type = _negotiate(request, wanted)
            studio = models.of(wanted.model)
        headers = {"Cache-Control": NEVER, "Vary": "Accept"}
        # JSON and multipart hold times, which differ at each answer.
        if wanted.seed is not None and media_type not in (JSON, MULTIPART):
            tag = entity_tag(wanted, studio.encoding(wanted), studio.generator)
            kept = FRESH if current().key is None else OWN
            headers = {"Cache-Control": kept, "Vary": "Accept", "ETag": tag}
            if matches(tag, request.headers.get("if-none-match", "")):
                return Response(status_code=304, headers=headers)
        return respond(await draw(request, models, wanted), media_type, headers)

    @router.get("/models", **openapi.MODELS)
    async def list_models() -> Response:
        """Tell what may be known of the models that are served, the default first."""
        return JSONResponse({"models": [asdict(one.info) for one in models.generators]})

    @router.get("/livez", **openapi.LIVEZ)
    async def livez() -> Response:
        """Tell that the process answers."""
        return PlainTextResponse("\n")

    @router.get("/readyz", **openapi.READYZ)
    async def readyz() -> Response:
        """Tell that pictures can be drawn."""
        if not models.ready:
            raise ServiceUnavailable("the service is not ready; try again later")
        return PlainTextResponse("\n")

    @router.get("/metrics", **openapi.METRICS)
    async def metrics() -> Response:
        """Tell Prometheus what happened."""
        return Response(models.metrics.text(), media_type=CONTENT_TYPE)

    @router.get("/", include_in_schema=False)
    async def home() -> Response:
        return RedirectResponse("/ui/")

    @router.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return Response(ICON, media_type="image/svg+xml")

    return router


def _negotiate(request: Request, wanted: GenerateRequest) -> tuple[GenerateRequest, str]:
    return negotiate(wanted, ",".join(request.headers.getlist("accept")))
