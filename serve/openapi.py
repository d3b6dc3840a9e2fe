"""What /openapi.json says of the routes that read their own bodies."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from sidestep.images import MEDIA_TYPES
from sidestep.requests import MAX_CLIENT_ID, MAX_COUNT, MAX_DEADLINE_MS, GenerateRequest

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "field"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string", "description": "One sentence for the caller."},
                "field": {"type": ["string", "null"], "description": "The field to mend."},
            },
        }
    },
}
_TIMINGS = {
    "type": "object",
    "description": "Where the time of this picture went.",
    "required": ["queue_ms", "engine_ms", "encode_ms", "total_ms", "batch_size"],
    "properties": {
        "queue_ms": {"type": "number"},
        "engine_ms": {"type": "number"},
        "encode_ms": {"type": "number"},
        "total_ms": {"type": "number"},
        "batch_size": {"type": "integer"},
    },
}
_PICTURE = {
    "type": "object",
    "required": ["seed", "format", "data", "dropped", "timings"],
    "properties": {
        "seed": {"type": "integer", "minimum": 0, "exclusiveMaximum": 2**64},
        "format": {"type": "string", "enum": list(MEDIA_TYPES)},
        "data": {"type": "string", "contentEncoding": "base64"},
        "dropped": {"type": "string", "description": "The end of the prompt that did not fit."},
        "timings": _TIMINGS,
    },
}
_PICTURES = {
    "type": "object",
    "required": ["pictures"],
    "properties": {"pictures": {"type": "array", "items": _PICTURE}},
}
_SERVER_TIMING = {
    "description": "queue, engine, encode and total in milliseconds, and the batch's size.",
    "schema": {"type": "string"},
}
_HEADERS = {
    "X-Seed": {
        "description": "The picture's seed (count 1).",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "Server-Timing": _SERVER_TIMING,
    "X-Prompt-Dropped": {
        "description": "The end of the prompt that did not fit, percent-encoded (count 1).",
        "schema": {"type": "string"},
    },
}
_RETRY = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
}
_PREDICTED = {
    "X-Predicted-Wait-Ms": {
        "description": "When the pictures would have been drawn.",
        "schema": {"type": "integer"},
    },
}
_PARAMETERS = [
    {
        "name": "X-Client-Id",
        "in": "header",
        "description": "client_id, where the body has none.",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_CLIENT_ID},
    },
    {
        "name": "X-Deadline-Ms",
        "in": "header",
        "description": "deadline_ms, where the body has none.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_DEADLINE_MS},
    },
]


def _errors(**statuses: str) -> dict[int | str, dict[str, Any]]:
    """Describe error answers; keys are names of HTTPStatus."""
    answers: dict[int | str, dict[str, Any]] = {}
    for name, description in statuses.items():
        status = HTTPStatus[name]
        answer: dict[str, Any] = {
            "description": description,
            "content": {"application/json": {"schema": _ERROR}},
        }
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            answer["headers"] = _RETRY
        if status is HTTPStatus.TOO_MANY_REQUESTS:
            answer["headers"] = {**_RETRY, **_PREDICTED}
        answers[status.value] = answer
    return answers


def _pictures() -> dict[str, Any]:
    """Describe a good answer of /generate."""
    one = {media_type: {"schema": {"type": "string"}} for media_type in MEDIA_TYPES.values()}
    return {
        "description": f"One picture's bytes; JSON for a count of 2 to {MAX_COUNT}.",
        "headers": _HEADERS,
        "content": {**one, "application/json": {"schema": _PICTURES}},
    }


GENERATE: dict[str, Any] = {
    "summary": "Draw a prompt",
    "openapi_extra": {
        "parameters": _PARAMETERS,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": GenerateRequest.model_json_schema(),
                    "example": {"prompt": "red apple", "seed": 7},
                }
            },
        },
    },
    "responses": {
        200: _pictures(),
        **_errors(
            BAD_REQUEST="The body is not a JSON object in UTF-8.",
            REQUEST_ENTITY_TOO_LARGE="The body is larger than the service reads.",
            UNSUPPORTED_MEDIA_TYPE="The body is not announced as JSON.",
            UNPROCESSABLE_ENTITY="A field is out of its bounds.",
            CONFLICT="A newer request of the same client replaced this one.",
            TOO_MANY_REQUESTS="It would be later than its deadline, or the queue is full.",
            INTERNAL_SERVER_ERROR="Unexpected; the service's log says more.",
            SERVICE_UNAVAILABLE="The service is stopping, or its engine is being opened anew.",
        ),
    },
}
_EMPTY = {"description": "Yes.", "content": {"text/plain": {"schema": {"type": "string"}}}}
LIVEZ: dict[str, Any] = {"summary": "Is the process alive?", "responses": {200: _EMPTY}}
READYZ: dict[str, Any] = {
    "summary": "Can pictures be drawn?",
    "responses": {
        200: _EMPTY,
        **_errors(SERVICE_UNAVAILABLE="No: starting, stopping or without a sound engine."),
    },
}
