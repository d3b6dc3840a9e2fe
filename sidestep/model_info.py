"""What a caller may know of a model that is served: the page and `GET /models` show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class ModelInfo:
    """A served model, in words and numbers.

    name: as GenerateRequest.model has it; image_size: (H, W) in pixels
    weights: hash of its weights; engine: name of what runs it
    examples: prompts that it draws well; styles: words that may end a prompt ("red apple, noto")
    limits: what it can and cannot draw, in a sentence or two
    steps: evaluations of the network per picture
    """

    name: str
    image_size: tuple[int, int]
    weights: str = ""
    engine: str = ""
    examples: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    limits: str = ""
    steps: int = 1

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what `asdict` wrote; raises KeyError, TypeError or ValueError for other values."""
        height, width = values["image_size"]
        return cls(
            str(values["name"]),
            (int(height), int(width)),
            str(values["weights"]),
            str(values["engine"]),
            tuple(str(prompt) for prompt in values["examples"]),
            tuple(str(style) for style in values["styles"]),
            str(values["limits"]),
            int(values.get("steps", 1)),  # an older server has no other
        )
