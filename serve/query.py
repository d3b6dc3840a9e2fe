"""A query string -> the fields of a request, as JSON would have had them."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from sidestep.errors import InvalidRequest
from sidestep.requests import GenerateRequest

_NUMBERS = ("seed", "count", "quality", "deadline_ms")
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}
LONGEST_NUMBER = 40


def read_query(request: Request) -> dict[str, Any]:
    """Read the query; raises InvalidRequest for a field that is given twice.

    Text that is no number or truth value is left for the request's own check, which names the
    bounds.
    """
    values: dict[str, Any] = {}
    for name, text in request.query_params.multi_items():
        if name in values:
            raise InvalidRequest(f"{name} is given more than once", field=name)
        values[name] = _value(name, text)
    return values


def number(text: str) -> int | str:
    """Read a whole number; other text stays text."""
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text)
    if digits.isascii() and digits.isdecimal() and len(digits) <= LONGEST_NUMBER:
        return int(sign + digits)
    return text


def parameters() -> list[dict[str, Any]]:
    """Describe the query for /openapi.json, from the request's own schema."""
    schema = GenerateRequest.model_json_schema()
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema["required"],
            "description": described["description"],
            "schema": _without_null(described),
        }
        for name, described in schema["properties"].items()
    ]


def _value(name: str, text: str) -> Any:
    if name in _NUMBERS:
        return number(text)
    return _TRUTHS.get(text.lower(), text) if name == "supersede" else text


def _without_null(described: dict[str, Any]) -> dict[str, Any]:
    """Take the half of "a number or null" that a query can say."""
    halves = (kind for kind in described.get("anyOf", ()) if kind != {"type": "null"})
    half = next(halves, described)
    return {name: half[name] for name in half if name not in ("title", "description")}
