"""How the networks attend while they train."""

from __future__ import annotations

from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor


def use_fastest_attention(unet: UNet2DConditionModel) -> None:
    """Take plain matrix products on CPUs; elsewhere diffusers' fused attention stays.

    On a CPU the fused one's backward pass costs a fifth of a whole training step.
    """
    if unet.device.type == "cpu":
        unet.set_attn_processor(AttnProcessor())
