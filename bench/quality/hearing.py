"""Let several draw the same and let one judge say the same of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench.quality.judge import Features, Judge, Reference
from bench.quality.picture_store import PictureStore
from bench.quality.protocol import FIRST_SEED, Plan
from bench.quality.result import Judged
from bench.quality.scores import distances, fit
from bench.quality.similarity import mean_pairwise_distance, nearest
from bench.quality.sources import Source, teacher_at
from distill.many_steps import ManyStepTeacher
from distill.measure import SCALES

SEEDS_EACH = 16  # pictures of each prompt, for diversity


@dataclass(frozen=True)
class Hearing:
    """All that is the same for every source of pictures."""

    judge: Judge
    reference: Reference
    plan: Plan
    store: PictureStore

    def hear(self, source: Source) -> Judged:
        """Let a source draw everything that the plan asks for, and judge it."""
        plan = self.plan
        features = self._see(source, plan.prompts, plan.seeds)
        held_out = None
        if plan.held_out:
            seen = self._see(source, plan.held_out, plan.held_out_seeds)
            held_out = fit(self.judge, self.reference, seen, plan.held_out)
        seeds = range(FIRST_SEED, FIRST_SEED + SEEDS_EACH)
        spread = [
            mean_pairwise_distance(self._see(source, [prompt] * SEEDS_EACH, seeds))
            for prompt in plan.diverse
        ]
        diversity = float(np.mean(spread)) if spread else None
        return replace(self.judged(features), held_out=held_out, diversity=diversity)

    def show(self, source: Source, prompts: Sequence[str]) -> NDArray[np.uint8]:
        """Let a source draw prompts with seed 0, to be looked at: [N, H, W, 3]."""
        return self.store.pictures(source.identity, prompts, [0] * len(prompts), source.draw)

    def judged(self, features: Features) -> Judged:
        """Judge pictures of the plan's prompts by their features [N, D]."""
        return Judged(
            distances(features, self.plan.real),
            fit(self.judge, self.reference, features, self.plan.prompts),
            float(np.median(nearest(features, self.plan.real)[1])),
        )

    def best_guidance(self, teacher: ManyStepTeacher) -> float:
        """Find the scale at which a quarter of the pictures comes nearest to the real ones."""
        plan, batch = self.plan, self.store.batch
        # Whole batches, which are then part of the whole.
        few = slice(0, batch * max(1, round(len(plan.prompts) / 4 / batch)))
        apart = {}
        for scale in SCALES:
            seen = self._see(teacher_at(teacher, scale), plan.prompts[few], plan.seeds[few])
            apart[scale] = distances(seen, plan.real).frechet
        return min(apart, key=lambda scale: apart[scale])

    def _see(self, source: Source, prompts: Sequence[str], seeds: Sequence[int]) -> Features:
        return self.judge.see(self.store.pictures(source.identity, prompts, seeds, source.draw))
