"""What /openapi.json says of OpenAI's routes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from serve.openapi import HEADER_PARAMETERS, SERVER_TIMING, errors

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_COMMON = {
    "size": {"type": "string"},
    "output_format": {"type": "string"},
    "background": {"type": "string"},
    "quality": {"type": "string"},
}
_DATUM = {
    "type": "object",
    "required": ["b64_json", "seed"],
    "properties": {
        "b64_json": {"type": "string", "contentEncoding": "base64"},
        "seed": {"type": "integer", "minimum": 0},
    },
}
_IMAGES = {
    "type": "object",
    "required": ["created", "data"],
    "properties": {
        "created": {"type": "integer"},
        "data": {"type": "array", "items": _DATUM},
        **_COMMON,
    },
}
_MODEL = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by"],
    "properties": {
        "id": {"type": "string"},
        "object": {"type": "string", "enum": ["model"]},
        "created": {"type": "integer"},
        "owned_by": {"type": "string"},
        "aliases": {"type": "array", "items": {"type": "string"}},
    },
}
_LIST = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {
        "object": {"type": "string", "enum": ["list"]},
        "data": {"type": "array", "items": _MODEL},
    },
}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_EVENT = {  # of a stream; `data` is JSON
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["event", "data"],
}


def generations(request: type[BaseModel]) -> dict[str, Any]:
    """Describe POST /v1/images/generations, whose fields `request` checks."""
    good = _json("The pictures, or one completed event for each where `stream` is true.", _IMAGES)
    good["content"]["text/event-stream"] = {"schema": _EVENT}
    good["headers"] = {"Server-Timing": SERVER_TIMING}
    body = {"application/json": {"schema": request.model_json_schema()}}
    return {
        "summary": "Draw a prompt (OpenAI)",
        "openapi_extra": {
            "parameters": HEADER_PARAMETERS,
            "requestBody": {"required": True, "content": body},
        },
        "responses": {
            200: good,
            **errors(
                _ERROR,
                BAD_REQUEST="A field is not supported or out of its bounds.",
                NOT_FOUND="No model of this name is served.",
                UNSUPPORTED_MEDIA_TYPE="The body is not announced as JSON.",
                TOO_MANY_REQUESTS="It would be later than its deadline, or the queue is full.",
                INTERNAL_SERVER_ERROR="Unexpected; the service's log says more.",
                SERVICE_UNAVAILABLE="The service is stopping or its engine is broken.",
            ),
        },
    }


MODELS: dict[str, Any] = {
    "summary": "List the models (OpenAI)",
    "responses": {200: _json("The models.", _LIST), **errors(_ERROR)},
}
MODEL: dict[str, Any] = {
    "summary": "Tell of one model (OpenAI)",
    "responses": {
        200: _json("The model.", _MODEL),
        **errors(_ERROR, NOT_FOUND="No model of this name is served."),
    },
}
