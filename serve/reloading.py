"""`POST /models/reload`: open models anew while they draw.

A route and not a signal: the answer tells whoever asked whether the new model draws, and BentoML's
supervisor takes SIGHUP for itself.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from serve.body import read_object
from serve.callers import current
from serve.errors import AnsweringRoute
from serve.models import Models
from serve.openapi_reload import RELOAD
from sidestep.errors import Forbidden, InvalidRequest


def make_router(models: Models) -> APIRouter:
    """Make the route that reloads `models`."""
    router = APIRouter(route_class=AnsweringRoute)

    @router.post("/models/reload", **RELOAD)
    async def reload(request: Request) -> Response:
        """Open one model anew, or all; the old one draws until the new one can."""
        check_allowed()
        reloaded = []
        for name in _names(await read_object(request), models):
            generator = await models.reload(name)
            spec = generator.engine.spec
            told = {"name": generator.name, "engine": spec.name, "weights": spec.weights}
            reloaded.append(told)
        return JSONResponse({"models": reloaded})

    return router


def check_allowed() -> None:
    """Raise Forbidden unless the caller has an admin's key, or asks from this machine itself.

    Where keys are in use, being on this machine is not enough. A proxy on this machine asks for
    others, so what is forwarded is not local. So does a browser on this machine, for whatever page
    is open in it; the JSON body keeps pages of other origins out only until CORS lets them in.
    """
    caller = current()
    if caller.key is not None:
        if not caller.key.admin:
            raise Forbidden("this API key may not reload models; add one with --admin")
        return
    if caller.forwarded or caller.web or not _is_loopback(caller.address):
        raise Forbidden("models are reloaded from this machine, or with an API key of --admin")


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _names(values: dict[str, Any], models: Models) -> list[str]:
    if unknown := [name for name in values if name != "model"]:
        raise InvalidRequest(f"{unknown[0]} is not a field; model is", field=unknown[0])
    name = values.get("model")
    if name is None:
        return models.names
    if not isinstance(name, str):
        raise InvalidRequest("model must be a name of /v1/models", field="model")
    return [name]
