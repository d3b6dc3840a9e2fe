"""What the page's two endpoints answer: JSON with pictures or a recipe, or with one sentence."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

from sidestep.errors import InvalidRequest, ServiceBusy, ServiceUnavailable, SidestepError
from sidestep.images import read_recipe
from sidestep.requests import GenerateRequest, Picture

Generate = Callable[[GenerateRequest], Awaitable[list[Picture]]]
logger = logging.getLogger("sidestep.ui")

MAX_FILE = 2**20
LONGEST_NAME = 80
RETRY_S = 1.0  # where the service cannot tell when to come back


async def draw_answer(generate: Generate, values: Mapping[str, Any]) -> dict[str, Any]:
    """Draw what the page asks for: {"pictures": [...]}, or {"error": {...}}.

    Seeds are texts: JavaScript's numbers cannot hold one above 2^53.
    """
    try:
        seed = seed_number(values["seed"])
        request = GenerateRequest.parse({**values, "seed": seed, "supersede": True})
        return {"pictures": [_picture(picture) for picture in await generate(request)]}
    except Exception as error:
        return {"error": _error(error)}


async def read_answer(file: object) -> dict[str, Any]:
    """Read the recipe inside a picture file (base64): {"recipe": {...}}, or {"error": {...}}.

    A recipe may be forged, so it is checked like a request.
    """
    try:
        return {"recipe": await asyncio.to_thread(_recipe, file)}
    except Exception as error:
        return {"error": _error(error)}


def seed_number(text: object) -> int:
    """Read a seed as it was typed; raises InvalidRequest for other text."""
    digits = text.strip() if isinstance(text, str) else ""
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 40:
        raise InvalidRequest("seed must be a whole number from 0 to 2^64 - 1", field="seed")
    return int(digits)


def _picture(picture: Picture) -> dict[str, Any]:
    """Tell a picture and, by its own recipe, what drew it: a model may be opened anew."""
    recipe = read_recipe(picture.data)
    return {
        "data": base64.b64encode(picture.data).decode("ascii"),
        "format": picture.format,
        "seed": str(picture.seed),
        "dropped": _shortened(picture.dropped),
        "timings": asdict(picture.timings),
        "weights": "" if recipe is None else _name(recipe.weights),
        "engine": "" if recipe is None else _name(recipe.engine),
    }


def _recipe(file: object) -> dict[str, str]:
    if not isinstance(file, str) or len(file) > 4 * MAX_FILE // 3 + 4:
        message = f"the file is larger than {MAX_FILE // 2**20} MiB, more than is read of a picture"
        raise InvalidRequest(message, field="file")
    try:
        data = base64.b64decode(file, validate=True)
    except ValueError:  # binascii.Error, or text that is not ASCII
        raise InvalidRequest("the file did not arrive whole", field="file") from None
    recipe = read_recipe(data)
    if recipe is None:
        raise InvalidRequest("the picture carries no recipe that can be read", field="file")
    request = GenerateRequest.parse({"prompt": recipe.prompt, "seed": recipe.seed})
    names = (recipe.model, recipe.weights, recipe.engine, recipe.version)
    model, weights, engine, version = (_name(name) for name in names)
    return {
        "prompt": request.prompt,
        "seed": str(request.seed),
        "model": model,
        "weights": weights,
        "engine": engine,
        "version": version,
    }


def _name(text: object) -> str:
    """Take a name from a file that anybody may have written."""
    return str(text).encode("utf-8", "replace").decode()[:LONGEST_NAME]


def _error(error: Exception) -> dict[str, Any]:
    """Tell an error in a sentence, and when to try again if that may help."""
    if not isinstance(error, SidestepError):
        logger.error("the page could not be answered", exc_info=error)
        return {"code": "internal", "message": "Something went wrong; the service's log says what."}
    message = _shortened(str(error), 300)
    told: dict[str, Any] = {"code": error.code, "message": f"{message[:1].upper()}{message[1:]}."}
    if isinstance(error, ServiceUnavailable):
        told["retry_after_s"] = RETRY_S
    if isinstance(error, ServiceBusy):
        told["retry_after_s"] = error.retry_after_s
        if error.wait_s is not None and "predicted wait" not in message:
            told["message"] += f" The predicted wait is {error.wait_s:.1f} s."
    return told


def _shortened(text: str, length: int = 80) -> str:
    return text if len(text) <= length else text[:length] + "..."
