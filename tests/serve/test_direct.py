from __future__ import annotations

import pytest
from fastapi import APIRouter, Depends, Request
from fastapi.responses import PlainTextResponse, Response

from serve.direct import DirectRoutes
from serve.errors import AnsweringRoute


async def nothing(*_: object) -> None:
    raise AssertionError("it was passed on")


async def draw(request: Request) -> Response:
    return PlainTextResponse("drawn")


def test_a_route_with_dependencies_cannot_be_called_without_them() -> None:
    router = APIRouter(route_class=AnsweringRoute)
    router.add_api_route("/draw", draw, methods=["POST"], dependencies=[Depends(lambda: None)])
    with pytest.raises(AssertionError, match="/draw is called without its dependencies"):
        DirectRoutes(nothing, [router])


def test_only_routes_that_draw_are_taken() -> None:
    router = APIRouter(route_class=AnsweringRoute)
    router.add_api_route("/draw", draw, methods=["POST"])
    router.add_api_route("/look", draw, methods=["GET"])
    assert list(DirectRoutes(nothing, [router])._routes) == ["/draw"]
