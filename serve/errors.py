"""The one place where errors become HTTP answers: {"error": {"code", "message", "field"}}."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from sidestep.errors import (
    InvalidRequest,
    RequestTooLarge,
    ServiceBusy,
    ServiceUnavailable,
    SidestepError,
    Superseded,
)

logger = logging.getLogger("sidestep.serve")
MAX_NAME = 64


class MalformedBody(InvalidRequest):
    """The body is not the JSON object that it should be."""

    code = "malformed_body"


class UnsupportedMediaType(InvalidRequest):
    """The body is announced as something other than JSON."""

    code = "unsupported_media_type"


# The first class that fits decides.
STATUSES: tuple[tuple[type[SidestepError], HTTPStatus], ...] = (
    (RequestTooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (UnsupportedMediaType, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    (MalformedBody, HTTPStatus.BAD_REQUEST),
    (InvalidRequest, HTTPStatus.UNPROCESSABLE_ENTITY),
    (Superseded, HTTPStatus.CONFLICT),
    (ServiceBusy, HTTPStatus.TOO_MANY_REQUESTS),
    (ServiceUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
)
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed"}


def error_response(error: Exception) -> Response:
    """Translate any exception; what is not ours is logged, and the caller learns no more of it."""
    if not isinstance(error, SidestepError):
        logger.error("unexpected error", exc_info=error)
        return answer(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "unexpected error; see the log")
    fitting = (status for kind, status in STATUSES if isinstance(error, kind))
    status = next(fitting, HTTPStatus.INTERNAL_SERVER_ERROR)
    headers = {}
    if isinstance(error, ServiceBusy):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
        if error.wait_s is not None:
            headers["X-Predicted-Wait-Ms"] = str(math.ceil(1e3 * error.wait_s))
    elif isinstance(error, ServiceUnavailable):
        headers["Retry-After"] = "5"
    field = error.field if isinstance(error, InvalidRequest) else None
    return answer(status, error.code, str(error), field=field, headers=headers)


def answer(
    status: int,
    code: str,
    message: str,
    *,
    field: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """Write one error; an unknown field's name is the caller's text, so it is cut to be short."""
    if field and len(field) > MAX_NAME:
        message = message.replace(field, field[:MAX_NAME] + "...")
        field = field[:MAX_NAME] + "..."
    # ASCII, because a name may hold half a surrogate pair, which UTF-8 cannot say.
    body = json.dumps({"error": {"code": code, "message": message, "field": field}})
    return Response(body, status, headers, media_type="application/json")


class AnsweringRoute(APIRoute):
    """A route whose every exception is answered in our shape.

    An app-wide handler of Exception would answer too, but Starlette then raises it once more.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the route's function."""
        handler = super().get_route_handler()

        async def answering(request: Request) -> Response:
            try:
                return await handler(request)
            except HTTPException:
                raise
            except Exception as error:
                return error_response(error)

        return answering


async def not_served(request: Request, error: Exception) -> Response:
    """Answer the router's own errors: an unknown path (404) or another method (405)."""
    assert isinstance(error, HTTPException)
    code = _HTTP_CODES.get(error.status_code, "http_error")
    message = f"{request.method} {request.url.path} is not served here; see /docs"
    headers = dict(error.headers) if error.headers else None
    return answer(error.status_code, code, message, headers=headers)
