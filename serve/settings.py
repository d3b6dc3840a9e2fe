"""What the service can be told, each option with its help, default and bounds once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Self

from sidestep.errors import InvalidRequest
from sidestep.requests import MAX_COUNT, MAX_DEADLINE_MS

PREFIX = "SIDESTEP_"


@dataclass(frozen=True)
class Settings:
    """Options of the service; option `queue_limit` is the variable SIDESTEP_QUEUE_LIMIT."""

    model: str | None = field(
        default=None, metadata={"help": "Model folder; the embedded model if absent."}
    )
    engine: str = field(default="auto", metadata={"help": "Engine that draws the pictures."})
    queue_limit: int = field(
        default=256,
        metadata={
            "help": "Pictures that may wait; a request that would exceed it is refused (429).",
            "bounds": (MAX_COUNT, 100_000),
        },
    )
    deadline_ms: int = field(
        default=10_000,
        metadata={
            "help": "Deadline of a request that states none; what would be later is refused (429).",
            "bounds": (1, MAX_DEADLINE_MS),
        },
    )
    body_limit: int = field(
        default=64 * 1024,
        metadata={
            "help": "Bytes of a request's body; a larger one is refused (413) and not read.",
            "bounds": (1_024, 16 * 1024 * 1024),
        },
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the SIDESTEP_* variables; raises InvalidRequest naming the variable."""
        values: dict[str, Any] = {
            option.name: _value(option, environment[variable(option.name)])
            for option in fields(cls)
            if environment.get(variable(option.name))
        }
        return cls(**values)


def variable(option: str) -> str:
    """Name the environment variable of an option."""
    return PREFIX + option.upper()


def _value(option: Field[Any], text: str) -> str | int:
    if "bounds" not in option.metadata:
        return text
    low, high = option.metadata["bounds"]
    name = variable(option.name)
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        wanted = f"a whole number from {low:,} to {high:,}"
        raise InvalidRequest(f"{name} must be {wanted}, not {text!r}", field=name)
    return number
