"""Pictures -> HTTP answers: the bytes themselves, or JSON with base64 for several."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from fastapi.responses import JSONResponse, Response

from sidestep.images import MEDIA_TYPES
from sidestep.requests import Picture, Timings

# Percent-encoded, 200 characters stay within what proxies take as one header.
MAX_DROPPED = 200


def picture_response(picture: Picture) -> Response:
    """Answer with one picture's bytes; seed, timings and dropped words are in headers."""
    headers = {
        "X-Seed": str(picture.seed),
        "Server-Timing": server_timing(picture.timings),
        "Cache-Control": "no-store",
    }
    if picture.dropped:
        headers["X-Prompt-Dropped"] = quote(picture.dropped[:MAX_DROPPED], safe=" ,.;:!?'")
    return Response(picture.data, headers=headers, media_type=MEDIA_TYPES[picture.format])


def pictures_response(pictures: Sequence[Picture]) -> Response:
    """Answer with several pictures as JSON."""
    slowest = max((picture.timings for picture in pictures), key=lambda t: t.total_ms)
    headers = {"Server-Timing": server_timing(slowest), "Cache-Control": "no-store"}
    return JSONResponse({"pictures": [as_json(picture) for picture in pictures]}, headers=headers)


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
        "data": base64.b64encode(picture.data).decode("ascii"),
        "dropped": picture.dropped,
        "timings": {
            "queue_ms": round(timings.queue_ms, 3),
            "engine_ms": round(timings.engine_ms, 3),
            "encode_ms": round(timings.encode_ms, 3),
            "total_ms": round(timings.total_ms, 3),
            "batch_size": timings.batch_size,
        },
    }
