"""What a sample is trained on: its noise, timestep and prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distill.draws import generator
from distill.few_steps import draw_k
from distill.losses import NoisyBatch
from distill.texts import Texts

T_MIN, T_MAX = 20, 979


@dataclass(frozen=True)
class Draw:
    """The random parts of one pass.

    z: [B, k, 4, h, w], for each of the generator's k steps; noise: [B, 4, h, w]; t: int64 [B]
    text: [B, L, D]
    """

    z: Tensor
    noise: Tensor
    t: Tensor
    text: Tensor


@dataclass(frozen=True)
class Samples:
    """Draws a sample from (seed, phase, step, its index in the batch) alone.

    So neither a resume nor the number of processes or passes changes what is trained on.
    steps: N, the most steps of the generator
    """

    texts: Texts
    latent_shape: tuple[int, int, int]
    seed: int
    steps: int = 1

    def draw(
        self,
        phase: str,
        step: int,
        indices: Sequence[int],
        k: int | None = None,
        *,
        empty: float = 0.0,
    ) -> Draw:
        """Draw z, eps, t ~ U{20..979} and prompts, of which a share `empty` is ''.

        k: steps of the generator; if absent k ~ U{1..N}, drawn once for all of (phase, step)
        """
        k = k or draw_k(self.seed, phase, step, self.steps)
        z, noise, t, prompts, dropped = [], [], [], [], []
        for index in indices:
            source = generator(self.seed, phase, step, index)
            z.append(torch.randn((k, *self.latent_shape), generator=source))
            noise.append(torch.randn(self.latent_shape, generator=source))
            t.append(torch.randint(T_MIN, T_MAX + 1, (), generator=source))
            prompts.append(int(torch.randint(len(self.texts), (), generator=source)))
            dropped.append(torch.rand((), generator=source) < empty)
        device = self.texts.null_text.device
        drop = torch.stack(dropped).to(device)[:, None, None]
        return Draw(
            torch.stack(z).to(device),
            torch.stack(noise).to(device),
            torch.stack(t).to(device),
            torch.where(drop, self.texts.null_text, self.texts.rows(prompts)),
        )

    def noisy(self, draw: Draw, x_g: Tensor) -> NoisyBatch:
        """Put generated latents under a draw's noise."""
        return NoisyBatch(x_g, draw.noise, draw.t, draw.text, self.texts.null_text)
