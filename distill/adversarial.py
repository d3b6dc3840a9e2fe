"""The adversarial term beside score distillation (SiDA, Zhou et al., 2024; Wang et al., 2023).

The discriminator D is the fake score's own encoder: a critic maps (x_t, t, text) to a logit map
[B, h', w'], high for what looks real, and has no weights of its own. Real and generated latents are
judged at the same noise level. Text is left out of it (the text is ''), so that real pictures need
no captions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses import NoisyBatch
from sidestep.schedule import NoiseSchedule

Critic = Callable[[Tensor, Tensor, Tensor], Tensor]


def discriminator_losses(
    critic: Critic, schedule: NoiseSchedule, batch: NoisyBatch, real: Tensor, noise: Tensor
) -> Tensor:
    """-log D(x_t real) - log(1 - D(x_t generated)) of each pair, the map's mean, [B].

    real: clean latents [B, 4, h, w], put under `noise` at the timesteps of `batch`
    """
    generated_t = batch.x_t(schedule).detach()
    real_t = replace(batch, x_g=real, noise=noise).x_t(schedule)
    t, text = torch.cat([batch.t, batch.t]), _no_text(batch)
    logits = critic(torch.cat([real_t, generated_t]), t, torch.cat([text, text])).float()
    of_real, of_generated = logits.chunk(2)
    return (F.softplus(-of_real) + F.softplus(of_generated)).mean((1, 2))


def adversarial_losses(critic: Critic, schedule: NoiseSchedule, batch: NoisyBatch) -> Tensor:
    """-log D(x_t generated) of each picture, the map's mean, [B]; gradients flow to x_g."""
    logits = critic(batch.x_t(schedule), batch.t, _no_text(batch)).float()
    return F.softplus(-logits).mean((1, 2))


def _no_text(batch: NoisyBatch) -> Tensor:
    return batch.null_text.expand(len(batch.t), -1, -1)
