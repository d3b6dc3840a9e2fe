"""What /openapi.json says of the routes that read their own bodies."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from serve.negotiation import JSON, MULTIPART
from serve.query import parameters
from sidestep.images import MEDIA_TYPES
from sidestep.requests import MAX_CLIENT_ID, MAX_COUNT, MAX_DEADLINE_MS, GenerateRequest

ERROR = {
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
SERVER_TIMING = {
    "description": "queue, engine, encode and total in milliseconds, and the batch's size.",
    "schema": {"type": "string"},
}
_HEADERS = {
    "X-Seed": {
        "description": "The picture's seed (count 1).",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "Server-Timing": SERVER_TIMING,
    "ETag": {
        "description": "Names the bytes (GET of one picture with a seed).",
        "schema": {"type": "string"},
    },
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
_IF_NONE_MATCH = [
    {
        "name": "If-None-Match",
        "in": "header",
        "description": "ETags of the answers that the caller has.",
        "schema": {"type": "string"},
    }
]
HEADER_PARAMETERS = [
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


_OF_GUARDS = {
    "UNAUTHORIZED": "An API key is needed here, and none or a wrong one was given.",
    "REQUEST_TIMEOUT": "The body did not arrive in time.",
    "REQUEST_ENTITY_TOO_LARGE": "The body is larger than the service reads.",
    "REQUEST_HEADER_FIELDS_TOO_LARGE": "The headers are larger than the service takes.",
}


def errors(schema: dict[str, Any], **statuses: str) -> dict[int | str, dict[str, Any]]:
    """Describe error answers of one shape; keys are names of HTTPStatus.

    Those of the guards, which stand before every route, are among them.
    """
    answers: dict[int | str, dict[str, Any]] = {}
    for name, description in {**_OF_GUARDS, **statuses}.items():
        status = HTTPStatus[name]
        answer: dict[str, Any] = {
            "description": description,
            "content": {"application/json": {"schema": schema}},
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
        "description": (
            f"One picture's bytes, or up to {MAX_COUNT} pictures as JSON or multipart, by Accept. "
            "Each part of a multipart answer has the headers of a single picture."
        ),
        "headers": _HEADERS,
        "content": {
            **one,
            JSON: {"schema": _PICTURES},
            MULTIPART: {"schema": {"type": "string"}},
        },
    }


_GENERATE_ERRORS = errors(
    ERROR,
    BAD_REQUEST="The body is not a JSON object in UTF-8.",
    NOT_FOUND="No model of this name is served.",
    NOT_ACCEPTABLE="Accept allows nothing that is on offer.",
    CONFLICT="A newer request of the same client replaced this one.",
    UNSUPPORTED_MEDIA_TYPE="The body is not announced as JSON.",
    UNPROCESSABLE_ENTITY="A field is out of its bounds.",
    TOO_MANY_REQUESTS="It would be later than its deadline, or the queue is full.",
    INTERNAL_SERVER_ERROR="Unexpected; the service's log says more.",
    SERVICE_UNAVAILABLE="The service is stopping, or its engine is being opened anew.",
)
_OF_BODIES = (400, 415)
GENERATE: dict[str, Any] = {
    "summary": "Draw a prompt",
    "openapi_extra": {
        "parameters": HEADER_PARAMETERS,
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
    "responses": {200: _pictures(), **_GENERATE_ERRORS},
}
GET_GENERATE: dict[str, Any] = {
    "summary": "Draw a prompt at an address",
    "openapi_extra": {"parameters": [*parameters(), *HEADER_PARAMETERS, *_IF_NONE_MATCH]},
    "responses": {
        200: _pictures(),
        304: {"description": "The caller has this picture (If-None-Match)."},
        **{code: told for code, told in _GENERATE_ERRORS.items() if code not in _OF_BODIES},
    },
}
_TEXT = {"description": "Text.", "content": {"text/plain": {"schema": {"type": "string"}}}}
_MODEL = {
    "type": "object",
    "required": [
        *("name", "image_size", "weights", "engine", "examples", "styles", "limits", "steps"),
    ],
    "properties": {
        "name": {"type": "string"},
        "image_size": {
            "type": "array",
            "description": "Height and width in pixels.",
            "items": {"type": "integer"},
            "minItems": 2,
            "maxItems": 2,
        },
        "weights": {"type": "string", "description": "Hash of the weights."},
        "engine": {"type": "string", "description": "What runs it."},
        "examples": {"type": "array", "items": {"type": "string"}},
        "styles": {
            "type": "array",
            "description": 'Words that may end a prompt, after a comma: "red apple, noto".',
            "items": {"type": "string"},
        },
        "limits": {"type": "string", "description": "What it can and cannot draw."},
        "steps": {"type": "integer", "description": "Evaluations of the network per picture."},
    },
}
_MODELS = {
    "type": "object",
    "required": ["models"],
    "properties": {"models": {"type": "array", "items": _MODEL}},
}
MODELS: dict[str, Any] = {
    "summary": "The models that are served",
    "responses": {
        200: {"description": "The models.", "content": {"application/json": {"schema": _MODELS}}}
    },
}
LIVEZ: dict[str, Any] = {
    "summary": "Is the process alive?",
    "responses": {200: _TEXT, **errors(ERROR)},
}
METRICS: dict[str, Any] = {
    "summary": "Metrics for Prometheus",
    "responses": {200: _TEXT, **errors(ERROR)},
}
READYZ: dict[str, Any] = {
    "summary": "Can pictures be drawn?",
    "responses": {
        200: _TEXT,
        **errors(ERROR, SERVICE_UNAVAILABLE="No: starting, stopping or without a sound engine."),
    },
}
_NATIVE_BODY = {
    "type": "object",
    "required": ["prompt"],
    "properties": {
        name: GenerateRequest.model_json_schema()["properties"][name]
        for name in ("prompt", "seed", "model", "format")
    },
}
_NATIVE_ANSWERS = {
    200: {**_pictures(), "description": "One picture's bytes."},
    400: {"description": "A field has another type (in BentoML's shape)."},
    **{code: told for code, told in _GENERATE_ERRORS.items() if code not in (400, 406, 409, 415)},
}
# Whole operations and not FastAPI's options: BentoML answers this route.
NATIVE: dict[str, Any] = {
    "post": {
        "summary": "Draw a prompt (for BentoML's clients)",
        "requestBody": {"required": True, "content": {JSON: {"schema": _NATIVE_BODY}}},
        "responses": {str(code): told for code, told in _NATIVE_ANSWERS.items()},
    }
}
