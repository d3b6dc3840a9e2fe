"""What /openapi.json says of `POST /models/reload`."""

from __future__ import annotations

from typing import Any

from serve.negotiation import JSON
from serve.openapi import ERROR, errors

_RELOADED = {
    "type": "object",
    "required": ["name", "engine", "weights"],
    "properties": {name: {"type": "string"} for name in ("name", "engine", "weights")},
}
RELOAD: dict[str, Any] = {
    "summary": "Open models anew while they draw (from this machine, or with an admin's key)",
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                JSON: {
                    "schema": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "model": {
                                "type": ["string", "null"],
                                "description": "A name of /v1/models; all if absent.",
                            }
                        },
                    }
                }
            },
        }
    },
    "responses": {
        200: {
            "description": "What draws now.",
            "content": {
                JSON: {
                    "schema": {
                        "type": "object",
                        "required": ["models"],
                        "properties": {"models": {"type": "array", "items": _RELOADED}},
                    }
                }
            },
        },
        **errors(
            ERROR,
            BAD_REQUEST="The body is not a JSON object in UTF-8.",
            FORBIDDEN="The caller is elsewhere, or its key is not an admin's.",
            NOT_FOUND="No model of this name is served.",
            CONFLICT="The folder is damaged; the model that was there goes on drawing.",
            UNSUPPORTED_MEDIA_TYPE="The body is not announced as JSON.",
            UNPROCESSABLE_ENTITY="A field is out of its bounds.",
            SERVICE_UNAVAILABLE="The new engine cannot draw; the one that was there goes on.",
        ),
    },
}
