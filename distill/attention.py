"""How the networks attend while they train."""

from __future__ import annotations

from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextModel


def use_fastest_attention(network: UNet2DConditionModel | CLIPTextModel) -> None:
    """Take plain matrix products on CPUs; elsewhere the fused attention stays.

    On a CPU the fused one's backward pass costs a fifth of a whole training step.
    """
    if network.device.type != "cpu":
        return
    if isinstance(network, CLIPTextModel):
        network.set_attn_implementation("eager")
    else:
        network.set_attn_processor(AttnProcessor())
