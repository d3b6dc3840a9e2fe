"""Draw pictures from a many-step teacher, the yardstick of every student."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor


@torch.no_grad()
def sample_ddim(
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
    noise: Tensor,
    texts: tuple[Tensor, Tensor],
    *,
    steps: int,
    guidance_scale: float,
) -> Tensor:
    """Denoise `noise` [B, 4, h, w] with DDIM and classifier-free guidance to latents x_0.

    texts: the prompts' embeddings [B, L, D] and those of '' [1, L, D]
    """
    text, null_text = texts
    both = torch.cat([null_text.expand_as(text), text])
    scheduler.set_timesteps(steps)
    x: Tensor = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        with torch.autocast(x.device.type, torch.bfloat16):
            unconditional, conditional = unet(torch.cat([x, x]), t, both).sample.float().chunk(2)
        eps = unconditional + guidance_scale * (conditional - unconditional)
        x = scheduler.step(eps, t, x).prev_sample
    return x
