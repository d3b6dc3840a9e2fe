"""Signals of a distillation's health, on draws that never change, so that runs can be compared."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch

from distill.few_steps import several_steps
from distill.guidance import Guidance
from distill.losses import Network, NoisyBatch, guided, to_x0
from distill.processes import current
from sidestep.schedule import NoiseSchedule

LEAST_SPREAD = 0.5  # of the widest seen: below it the pictures have become alike


class CollapseWarning(UserWarning):
    """The generator's pictures have become alike, or are not numbers any more."""


@dataclass
class Watch:
    """Measures the same pictures under the same noise at every checkpoint.

    batch: z [B, N, 4, h, w] in place of x_g, with the noise, t and text under which the pictures
        are judged
    widest: the widest spread that was seen so far
    """

    schedule: NoiseSchedule
    batch: NoisyBatch
    guidance: Guidance
    widest: float = 0.0

    @torch.no_grad()
    def measure(
        self, generator: Network, fake_score: Network, teacher: Network
    ) -> dict[str, float]:
        """Return the Fisher divergence's proxy and the pictures' spread.

        fisher: mean ||y_real - y_fake||^2 / ||y_real - x_g||^2 over the batch, at least 0 and 0
        where fake score and teacher agree, which the losses are not: they swing around 0.
        spread: standard deviation of the latents from picture to picture; warns when it collapses.
        """
        fixed = self.batch
        x_g = several_steps(generator, self.schedule, fixed.x_g, fixed.text)
        batch = NoisyBatch(x_g, fixed.noise, fixed.t, fixed.text, fixed.null_text)
        x_t = batch.x_t(self.schedule)
        (fake,) = guided(fake_score, x_t, batch, (self.guidance.kappa2,))
        (real,) = guided(teacher, x_t, batch, (self.guidance.kappa4,))
        y_fake, y_real = (to_x0(p, self.schedule, x_t, batch.t) for p in (fake, real))
        apart = (y_real - y_fake).square().sum((1, 2, 3))
        scale = (y_real - x_g).square().sum((1, 2, 3)).clamp(min=1e-8)
        spread = x_g.std(dim=0).mean().item()
        self._warn_of_collapse(spread)
        return {"fisher": (apart / scale).mean().item(), "spread": spread}

    def _warn_of_collapse(self, spread: float) -> None:
        self.widest = max(self.widest, spread)
        if current().writes and not spread >= LEAST_SPREAD * self.widest:  # nan too
            warnings.warn(
                f"the pictures' spread fell to {spread:.3g} from {self.widest:.3g}: the generator "
                "is collapsing; go back to an earlier checkpoint with a lower --learning-rate "
                "or --kappa, or a larger --batch",
                CollapseWarning,
                stacklevel=3,
            )
