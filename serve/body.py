"""A request's body -> a checked GenerateRequest, reading no more than the limit."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request

from serve.errors import MalformedBody, UnsupportedMediaType
from sidestep.errors import RequestTooLarge
from sidestep.requests import GenerateRequest


async def read_request(request: Request, *, limit: int) -> GenerateRequest:
    """Read and check a body of at most `limit` bytes; raises InvalidRequest and its kin."""
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType(
            f"Content-Type must be application/json, not {media_type[:64] or 'absent'}"
        )
    values = _object(await _read(request, limit))
    return GenerateRequest.parse({**_from_headers(request), **values})


def _from_headers(request: Request) -> dict[str, Any]:
    """Read the fields that a caller may give as headers; the body's win."""
    values: dict[str, Any] = {}
    if (client := request.headers.get("x-client-id")) is not None:
        values["client_id"] = client
    if (deadline := request.headers.get("x-deadline-ms")) is not None:
        short = deadline.isascii() and deadline.isdecimal() and len(deadline) < 16
        values["deadline_ms"] = int(deadline) if short else deadline
    return values


async def _read(request: Request, limit: int) -> bytes:
    """Read the body; stops at the first chunk beyond the limit, or before it where announced."""
    message = f"the body must be at most {limit:,} bytes"
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 15 or int(announced) > limit):
        raise RequestTooLarge(message)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise RequestTooLarge(message)
    return bytes(body)


def _object(body: bytes) -> dict[str, Any]:
    """Parse one JSON object in UTF-8."""
    try:
        values = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise MalformedBody(f"the body must be UTF-8 (byte {error.start} is not)") from None
    except ValueError as error:
        raise MalformedBody(f"the body must be a JSON object ({error})") from None
    except RecursionError:
        raise MalformedBody("the body must be a JSON object (it is nested too deeply)") from None
    if not isinstance(values, dict):
        raise MalformedBody('the body must be a JSON object such as {"prompt": "red apple"}')
    return values
