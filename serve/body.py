"""A request's body and headers -> the fields of a request, reading no more than the limit."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request

from serve.errors import MalformedBody, UnsupportedMediaType
from serve.query import number
from sidestep.errors import RequestTooLarge


async def read_object(request: Request, *, limit: int) -> dict[str, Any]:
    """Read a JSON object of at most `limit` bytes; raises InvalidRequest and its kin."""
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType(
            f"Content-Type must be application/json, not {media_type[:64] or 'absent'}"
        )
    return _object(await _read(request, limit))


def header_values(request: Request) -> dict[str, Any]:
    """Read the fields that a caller may give as headers."""
    values: dict[str, Any] = {}
    if (client := request.headers.get("x-client-id")) is not None:
        values["client_id"] = client
    if (deadline := request.headers.get("x-deadline-ms")) is not None:
        values["deadline_ms"] = number(deadline)
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
        values = json.loads(body.decode("utf-8"), object_pairs_hook=_fields)
    except UnicodeDecodeError as error:
        raise MalformedBody(f"the body must be UTF-8 (byte {error.start} is not)") from None
    except ValueError as error:
        raise MalformedBody(f"the body must be a JSON object ({error})") from None
    except RecursionError:
        raise MalformedBody("the body must be a JSON object (it is nested too deeply)") from None
    if not isinstance(values, dict):
        raise MalformedBody('the body must be a JSON object such as {"prompt": "red apple"}')
    return values


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Join the fields of an object; two of one name would leave one unread."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise MalformedBody(f"{twice} is given more than once", field=twice)
    return values
