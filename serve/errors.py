"""The one place where errors become HTTP answers: {"error": {"code", "message", "field"}}."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from sidestep.errors import (
    Forbidden,
    InvalidModel,
    InvalidRequest,
    RequestTooLarge,
    ServiceBusy,
    ServiceUnavailable,
    SidestepError,
    Superseded,
    Unauthorized,
)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
logger = logging.getLogger("sidestep.serve")
MAX_NAME = 64


class MalformedBody(InvalidRequest):
    """The body is not the JSON object that it should be."""

    code = "malformed_body"


class UnsupportedMediaType(InvalidRequest):
    """The body is announced as something other than JSON."""

    code = "unsupported_media_type"


class NotAcceptable(InvalidRequest):
    """The caller accepts no media type that is on offer."""

    code = "not_acceptable"


class ModelNotFound(InvalidRequest):
    """No model of this name is served."""

    code = "model_not_found"


class MalformedRequest(InvalidRequest):
    """What arrived is not HTTP, or has a method that HTTP does not know."""

    code = "malformed_request"


class HeadersTooLarge(InvalidRequest):
    """The request's headers are larger than the service takes."""

    code = "headers_too_large"


class SlowClient(SidestepError):
    """The request did not arrive in time."""

    code = "slow_client"


class PolicyViolation(InvalidRequest):
    """A prompt or a picture is against this service's rules."""

    code = "content_policy_violation"


class ClientLeft(SidestepError):
    """The client closed its connection; nobody reads the answer."""

    code = "client_left"


CLIENT_CLOSED_REQUEST = 499
# The first class that fits decides.
STATUSES: tuple[tuple[type[SidestepError], int], ...] = (
    (ClientLeft, CLIENT_CLOSED_REQUEST),
    (NotAcceptable, HTTPStatus.NOT_ACCEPTABLE),
    (ModelNotFound, HTTPStatus.NOT_FOUND),
    (HeadersTooLarge, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
    (SlowClient, HTTPStatus.REQUEST_TIMEOUT),
    (Unauthorized, HTTPStatus.UNAUTHORIZED),
    (Forbidden, HTTPStatus.FORBIDDEN),
    (RequestTooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (UnsupportedMediaType, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    (MalformedBody, HTTPStatus.BAD_REQUEST),
    (MalformedRequest, HTTPStatus.BAD_REQUEST),
    (InvalidRequest, HTTPStatus.UNPROCESSABLE_ENTITY),
    (InvalidModel, HTTPStatus.CONFLICT),
    (Superseded, HTTPStatus.CONFLICT),
    (ServiceBusy, HTTPStatus.TOO_MANY_REQUESTS),
    (ServiceUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
)
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed"}


@dataclass(frozen=True)
class Failure:
    """An error as every shape of answer tells it; `message` is one sentence for the caller."""

    status: int
    code: str
    message: str
    field: str | None = None
    headers: dict[str, str] = dataclass_field(default_factory=dict)


def translate(error: Exception) -> Failure:
    """Translate any exception; what is not ours is logged, and the caller learns no more of it."""
    if not isinstance(error, SidestepError):
        logger.error("unexpected error", exc_info=error)
        message = "unexpected error; see the log"
        return Failure(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", message)
    fitting = (status for kind, status in STATUSES if isinstance(error, kind))
    status = next(fitting, HTTPStatus.INTERNAL_SERVER_ERROR)
    headers = {}
    if isinstance(error, ServiceBusy):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
        if error.wait_s is not None:
            headers["X-Predicted-Wait-Ms"] = str(math.ceil(1e3 * error.wait_s))
    elif isinstance(error, ServiceUnavailable):
        headers["Retry-After"] = "5"
    if isinstance(error, SlowClient):
        headers["Connection"] = "close"
    message, name = str(error), error.field if isinstance(error, InvalidRequest) else None
    if name and len(name) > MAX_NAME:  # an unknown field's name is the caller's text
        message = message.replace(name, name[:MAX_NAME] + "...")
        name = name[:MAX_NAME] + "..."
    return Failure(status, error.code, message, name, headers)


def answer(failure: Failure) -> Response:
    """Write an error in our shape."""
    told = {"code": failure.code, "message": failure.message, "field": failure.field}
    return write(failure, {"error": told})


def write(failure: Failure, values: dict[str, Any]) -> Response:
    """Write an error's values as JSON in ASCII: a name may hold half a surrogate pair."""
    body = json.dumps(values)
    return Response(body, failure.status, failure.headers, media_type="application/json")


class AnsweringRoute(APIRoute):
    """A route whose every exception is answered in the shape of `answer`.

    An app-wide handler of Exception would answer too, but Starlette then raises it once more.
    """

    answer = staticmethod(answer)

    def get_route_handler(self) -> Handler:
        """Wrap the route's function."""
        return self.answering(super().get_route_handler())

    def answering(self, handler: Handler) -> Handler:
        """Make every exception of `handler` an answer."""

        async def answering(request: Request) -> Response:
            try:
                return await handler(request)
            except HTTPException:
                raise
            except Exception as error:
                return self.answer(translate(error))

        return answering


async def not_served(request: Request, error: Exception) -> Response:
    """Answer the router's own errors: an unknown path (404) or another method (405)."""
    assert isinstance(error, HTTPException)
    code = _HTTP_CODES.get(error.status_code, "http_error")
    message = f"{request.method} {request.url.path} is not served here; see /docs"
    headers = dict(error.headers or {})
    return answer(Failure(error.status_code, code, message, headers=headers))
