"""The public routes."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response

from serve import openapi
from serve.body import read_request
from serve.errors import AnsweringRoute
from serve.pictures import picture_response, pictures_response
from serve.studio import Studio
from sidestep.errors import ServiceUnavailable
from sidestep.requests import GenerateRequest, Picture

CLIENT_CLOSED_REQUEST = 499
ICON = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 4 4'>"
    "<path fill='royalblue' d='M0 2h2v2H0zM2 0h2v2H2z'/></svg>"
)


def make_router(studio: Studio, *, body_limit: int) -> APIRouter:
    """Make the routes that draw with `studio`."""
    router = APIRouter(route_class=AnsweringRoute)

    @router.post("/generate", **openapi.GENERATE)
    async def generate(request: Request) -> Response:
        """Draw a prompt. One picture is answered as its bytes, several as JSON with base64."""
        wanted = await read_request(request, limit=body_limit)
        pictures = await _unless_disconnected(request, studio, wanted)
        if pictures is None:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        if len(pictures) == 1:
            return picture_response(pictures[0])
        return pictures_response(pictures)

    @router.get("/livez", **openapi.LIVEZ)
    async def livez() -> Response:
        """Tell that the process answers."""
        return PlainTextResponse("\n")

    @router.get("/readyz", **openapi.READYZ)
    async def readyz() -> Response:
        """Tell that pictures can be drawn."""
        if not studio.ready:
            raise ServiceUnavailable("the service is not ready; try again later")
        return PlainTextResponse("\n")

    @router.get("/", include_in_schema=False)
    async def home() -> Response:
        return RedirectResponse("/ui/")

    @router.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return Response(ICON, media_type="image/svg+xml")

    return router


async def _unless_disconnected(
    request: Request, studio: Studio, wanted: GenerateRequest
) -> list[Picture] | None:
    """Draw while the client listens; None if it left, and what was still queued is dropped."""
    address = request.client.host if request.client else ""
    drawing = asyncio.ensure_future(studio.generate(wanted, address=address))
    leaving = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait((drawing, leaving), return_when=asyncio.FIRST_COMPLETED)
        return await drawing if drawing.done() else None
    finally:
        drawing.cancel()
        leaving.cancel()


async def _disconnect(request: Request) -> None:
    """Return when the client closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
