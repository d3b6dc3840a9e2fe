"""Older formats of a model's card, `sidestep.json`, turned into the one that is read now.

1  until 0.1.0: `autocast` where the recipe names its number format now, no `latency`
2  now
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sidestep.errors import InvalidModel

FORMAT = 2


def migrate(path: Path, values: Any) -> dict[str, Any]:
    """Return a card's values in today's format; the file itself stays as it is.

    Raises InvalidModel with the command to run for what is no card, or of a format to come.
    """
    found = values.get("format") if isinstance(values, dict) else None
    if type(found) is int and found > FORMAT:
        raise InvalidModel(
            f"{path} has format {found}, of a newer sidestep than this, which reads up to {FORMAT};"
            " run: pip install --upgrade sidestep"
        )
    if type(found) is not int or found < min(_STEPS):
        raise InvalidModel(
            f"{path} has format {found}, which no version of sidestep wrote; distil or import the "
            "model again: sidestep distill --help, sidestep import --help"
        )
    card: dict[str, Any] = dict(values)
    while card["format"] < FORMAT:
        card = {**_STEPS[card["format"]](card), "format": card["format"] + 1}
    return card


def _from_1(card: dict[str, Any]) -> dict[str, Any]:
    recipe = dict(card.get("recipe") or {})
    if (autocast := recipe.pop("autocast", None)) is not None:
        recipe.setdefault("precision", "bf16" if autocast else "fp32")
    return {**card, "recipe": recipe}


_STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}
