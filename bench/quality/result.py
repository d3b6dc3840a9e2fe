"""What is measured of a model of emoji."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.quality.examples import Example
from bench.quality.ranking import Ranking
from bench.quality.scores import Distances, Fit

FORMAT = 1


@dataclass(frozen=True)
class Judged:
    """What the judge says of one source; `pictures` are those of the plan's prompts.

    diversity: mean distance between 16 pictures of one prompt
    nearest: median distance of a picture to the nearest real one of half B
    """

    seen: Distances
    fit: Fit
    nearest: float
    held_out: Fit | None = None
    diversity: float | None = None


@dataclass(frozen=True)
class Quality:
    """A model's quality beside its teacher's and that of real pictures.

    weights, judge: hashes; kappas: κ1…κ4, where known; guidance: the teacher's
    nearest: a line for each of 16 samples
    prompts, held_out_prompts: how many, their hash and where they are from; of the former the first
    ranking: of pictures that nobody drew, to tell whether the judge's distances mean anything
    examples: the card's prompts as the student draws them, in the order of their grid
    pictures: what is shown, [N, H, W, 3] each: what `student` and `teacher` drew for the first
        prompts, and the student for the card's, `examples`, all with seed 0
    """

    model: str
    weights: str
    kappas: list[float] | None
    engine: str
    judge: str
    images: int
    guidance: float | None
    real: Judged
    student: Judged
    teacher: Judged | None
    start: Judged | None
    ranking: Ranking
    prompts: dict[str, Any]
    held_out_prompts: dict[str, Any] | None
    nearest: list[dict[str, Any]]
    examples: list[Example]
    seconds: float
    pictures: dict[str, NDArray[np.uint8]] = field(repr=False, default_factory=dict)

    @property
    def closed(self) -> float | None:
        """The share of the distance from start to teacher that the distillation closed.

        None where one of them did not draw, or the teacher came no nearer than the start.
        """
        if self.start is None or self.teacher is None:
            return None
        start, end = self.start.seen.frechet, self.teacher.seen.frechet
        if end >= start:
            return None
        return (start - self.student.seen.frechet) / (start - end)

    @property
    def ranked(self) -> bool:
        """Whether the judge ranks real < teacher, if it drew, < blurred real, if known, < noise."""
        return self.ranking.holds(self.teacher.seen.frechet if self.teacher else None)

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the pictures, as docs/evaluation.md tells."""
        return {"format": FORMAT, **asdict(replace(self, pictures={}))}
