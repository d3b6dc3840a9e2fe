"""A request's body and headers -> the fields of a request, reading no more than the limit."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fastapi import Request
from starlette.types import Receive

from serve.errors import ClientLeft, MalformedBody, SlowClient, UnsupportedMediaType
from serve.query import number
from sidestep.errors import RequestTooLarge

MAX_PAGE_BODY = 2 * 2**20  # a picture file in base64, whose recipe the page reads


async def read_body(receive: Receive, announced: str, *, limit: int, within_s: float) -> bytes:
    """Read a body; stops at the first chunk beyond the limit, or before it where announced.

    Raises RequestTooLarge, SlowClient if it takes longer than `within_s`, and ClientLeft.
    """
    message = f"the body must be at most {limit:,} bytes"
    if announced.isdecimal() and (len(announced) > 15 or int(announced) > limit):
        raise RequestTooLarge(message)
    body, more = bytearray(), True
    try:
        async with asyncio.timeout(within_s):
            while more:
                chunk = await receive()
                if chunk["type"] == "http.disconnect":
                    raise ClientLeft("the client closed its connection")
                body += chunk.get("body", b"")
                more = chunk.get("more_body", False)
                if len(body) > limit:
                    raise RequestTooLarge(message)
    except TimeoutError:
        raise SlowClient(f"the body did not arrive within {within_s:g} s") from None
    return bytes(body)


async def read_object(request: Request) -> dict[str, Any]:
    """Read a JSON object; raises InvalidRequest and its kin."""
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType(
            f"Content-Type must be application/json, not {media_type[:64] or 'absent'}"
        )
    return _object(await request.body())


def header_values(request: Request) -> dict[str, Any]:
    """Read the fields that a caller may give as headers."""
    values: dict[str, Any] = {}
    if (client := request.headers.get("x-client-id")) is not None:
        values["client_id"] = client
    if (deadline := request.headers.get("x-deadline-ms")) is not None:
        values["deadline_ms"] = number(deadline)
    return values


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
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise MalformedBody(f"{name} is given more than once", field=name)
        values[name] = value
    return values
