"""Whether the judge ranks what it must: real pictures, then blurred ones, then noise.

A teacher's pictures belong between the first two. A Fréchet distance falls with the number of
pictures: so all sets here have as many as a model draws, and are compared with the same half B.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bench.quality.frechet import Statistics, frechet_distance
from bench.quality.judge import BATCH, Features, Judge
from bench.quality.protocol import Plan

_SEED = 0  # of the noise


@dataclass(frozen=True)
class Ranking:
    """Fréchet distances to half B, each of `pictures` pictures.

    blurred: the real pictures, blurred; None where the judge's folder has not as many
    """

    pictures: int
    real: float
    blurred: float | None
    noise: float

    def holds(self, teacher: float | None = None) -> bool:
        """Whether these distances rise, with a teacher's between the real and the blurred ones."""
        told = [self.real, teacher, self.blurred, self.noise]
        known = [distance for distance in told if distance is not None]
        return all(one < other for one, other in pairwise(known))


def rank(judge: Judge, plan: Plan) -> Ranking:
    """Measure the plan's real pictures, the same blurred, and as much noise."""
    real = Statistics.of(plan.real)

    def apart(features: Features) -> float:
        return frechet_distance(Statistics.of(features), real)

    return Ranking(
        pictures=len(plan.yardstick),
        real=apart(plan.yardstick),
        blurred=None if plan.blurred is None else apart(plan.blurred),
        noise=apart(_see_noise(judge, len(plan.yardstick))),
    )


def _see_noise(judge: Judge, count: int) -> Features:
    draw = np.random.Generator(np.random.PCG64(_SEED))
    shape = (judge.size_px, judge.size_px, 3)
    sizes = [min(BATCH, count - start) for start in range(0, count, BATCH)]
    noise = (draw.integers(0, 256, (size, *shape), np.uint8) for size in sizes)
    return np.concatenate([judge.see(part) for part in noise])
