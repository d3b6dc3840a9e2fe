"""Pictures -> HTTP answers: the bytes themselves, JSON with base64, or multipart."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from fastapi.responses import JSONResponse, Response

from serve.negotiation import JSON, MULTIPART
from sidestep.images import MEDIA_TYPES
from sidestep.requests import Picture, Timings

# Percent-encoded, 200 characters stay within what proxies take as one header.
MAX_DROPPED = 200


def respond(pictures: Sequence[Picture], media_type: str, headers: dict[str, str]) -> Response:
    """Answer with all pictures in the media type that was negotiated; `headers` are added."""
    if media_type not in (JSON, MULTIPART):
        (picture,) = pictures
        headers = {**picture_headers(picture), **headers}
        return Response(picture.data, headers=headers, media_type=media_type)
    headers = {"Server-Timing": slowest(pictures), **headers}
    if media_type == JSON:
        values = {"pictures": [as_json(picture) for picture in pictures]}
        return JSONResponse(values, headers=headers)
    boundary = secrets.token_hex(16)
    body = (
        b"".join(_part(picture, boundary) for picture in pictures) + f"--{boundary}--\r\n".encode()
    )
    return Response(body, headers=headers, media_type=f"{MULTIPART}; boundary={boundary}")


def picture_headers(picture: Picture) -> dict[str, str]:
    """Tell a picture's seed, times and dropped words."""
    headers = {"X-Seed": str(picture.seed), "Server-Timing": server_timing(picture.timings)}
    if picture.dropped:
        headers["X-Prompt-Dropped"] = quote(picture.dropped[:MAX_DROPPED], safe=" ,.;:!?'")
    return headers


def slowest(pictures: Sequence[Picture]) -> str:
    """Write the Server-Timing of the picture that the others waited for."""
    return server_timing(max((picture.timings for picture in pictures), key=lambda t: t.total_ms))


def server_timing(timings: Timings) -> str:
    """Write a Server-Timing header, in milliseconds; the batch's size is a description."""
    return (
        f"queue;dur={timings.queue_ms:.2f}, engine;dur={timings.engine_ms:.2f}, "
        f"encode;dur={timings.encode_ms:.2f}, total;dur={timings.total_ms:.2f}, "
        f'batch;desc="{timings.batch_size}"'
    )


def as_json(picture: Picture) -> dict[str, Any]:
    """Write one picture as the JSON that `sidestep.client` reads."""
    timings = picture.timings
    return {
        "seed": picture.seed,
        "format": picture.format,
        "data": as_base64(picture),
        "dropped": picture.dropped,
        "timings": {
            "queue_ms": round(timings.queue_ms, 3),
            "engine_ms": round(timings.engine_ms, 3),
            "encode_ms": round(timings.encode_ms, 3),
            "total_ms": round(timings.total_ms, 3),
            "batch_size": timings.batch_size,
        },
    }


def as_base64(picture: Picture) -> str:
    """Write a picture's bytes as text."""
    return base64.b64encode(picture.data).decode("ascii")


def _part(picture: Picture, boundary: str) -> bytes:
    """Write one part of a multipart body (RFC 2046, section 5.1); the boundary is 128 bits."""
    headers = {
        "Content-Type": MEDIA_TYPES[picture.format],
        "Content-Length": str(len(picture.data)),
        **picture_headers(picture),
    }
    lines = [f"--{boundary}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + picture.data + b"\r\n"
