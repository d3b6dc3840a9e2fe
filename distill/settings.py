"""Dataclass fields that carry their default, bounds and help once, for checks and command lines."""

from __future__ import annotations

import math
from dataclasses import MISSING, Field, field, fields
from typing import Any

from sidestep.errors import InvalidTraining


def setting(
    default: Any,
    help: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Declare a field of a settings dataclass; bounds are inclusive."""
    metadata = {"help": help, "at_least": at_least, "at_most": at_most, "choices": choices}
    return field(default=default, metadata=metadata)


def option_of(name: str) -> str:
    """Name a field as the command line does: --learning-rate."""
    return f"--{name.replace('_', '-')}"


def declared(kind: type) -> dict[str, Field[Any]]:
    """Return the fields that were declared by `setting`, by name."""
    return {f.name: f for f in fields(kind) if "help" in f.metadata and f.default is not MISSING}


def check(settings: Any) -> None:
    """Raise InvalidTraining naming the first setting that is out of its bounds, and the bounds."""
    for name, declaration in declared(type(settings)).items():
        value, told = getattr(settings, name), declaration.metadata
        option = f"{option_of(name)} {value}"
        if told["choices"] and value not in told["choices"]:
            raise InvalidTraining(
                f"{option} is unknown; choose one of {', '.join(told['choices'])}"
            )
        low, high = told["at_least"], told["at_most"]
        if low is not None and not value >= low:
            raise InvalidTraining(f"{option} is below {low:g}, the least")
        if high is not None and not value <= high:
            raise InvalidTraining(f"{option} is above {high:g}, the most")
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidTraining(f"{option} is not a finite number")
