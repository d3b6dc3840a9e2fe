"""Fold the generator's constants into its weights, exactly, before it is exported.

The timestep never changes, so `time_emb_proj(silu(emb))` joins each residual block's first bias
and all of the time embedding disappears. sigma joins `conv_in`, sigma / (a * scaling) joins
`post_quant_conv`, and x 127.5 + 128 joins the decoder's `conv_out`. The small decoder takes and
gives other ranges, which join its own first and last weights.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from export.simplify import (
    simplify_layers,
    simplify_text_encoder,
    simplify_unet,
    simplify_upsampling,
)
from sidestep.engines.torch_module import OneStepGenerator, to_pixels
from sidestep.errors import InvalidModel

_UNSUPPORTED = (
    "class_embed_type",
    "addition_embed_type",
    "encoder_hid_dim_type",
    "time_cond_proj_dim",
)


class FoldedGenerator(nn.Module):
    """The same function as `OneStepGenerator`, with its constants inside its weights."""

    def __init__(self, generator: OneStepGenerator) -> None:
        """Fold `generator`, whose weights are taken over and changed: there is room for one of it.

        Raises InvalidModel for a UNet that needs more inputs.
        """
        super().__init__()
        schedule = generator.schedule
        self.text_encoder = generator.text_encoder
        self.unet = generator.unet
        self.v_prediction = schedule.prediction_type == "v_prediction"
        self.a = schedule.a_init
        a, sigma = schedule.a_init, schedule.sigma_init
        _fold_timestep(self.unet, schedule.init_timestep)
        simplify_text_encoder(self.text_encoder)
        simplify_unet(self.unet)
        self.unet.forward = partial(unet_without_time, self.unet)
        _scale(self.unet.conv_in.weight, sigma)
        factor = sigma * (1 if self.v_prediction else 1 / a)
        fold = _fold_small if isinstance(generator.vae, AutoencoderTiny) else _fold_full
        self.post_quant_conv, self.decoder = fold(generator.vae, factor)

    def forward(self, input_ids: Tensor, noise: Tensor) -> Tensor:
        """Map ids int64 [B, L] and noise [B, 4, h, w] to pixels uint8 [B, H, W, 3]."""
        noise = noise.to(self.unet.conv_in.weight.dtype)
        text = self.text_encoder(input_ids).last_hidden_state  # [B, L, D]
        predicted = self.unet(noise, text)  # [B, 4, h, w]
        direction = self.a * noise - predicted if self.v_prediction else noise - predicted
        latents = self.post_quant_conv(direction.to(self.post_quant_conv.weight.dtype))
        return to_pixels(self.decoder(latents))  # [B, H, W, 3]


def unet_without_time(unet: UNet2DConditionModel, x: Tensor, text: Tensor) -> Tensor:
    """Run a UNet whose timestep was folded: the blocks of `UNet2DConditionModel.forward`."""
    x = unet.conv_in(x)
    skips = [x]
    for block in unet.down_blocks:
        x, residuals = block(x, **_text(block, text))
        skips.extend(residuals)
    x = unet.mid_block(x, **_text(unet.mid_block, text))
    for block in unet.up_blocks:
        count = len(block.resnets)
        skips, residuals = skips[:-count], tuple(skips[-count:])
        size = skips[-1].shape[2:] if block is not unet.up_blocks[-1] else None
        x = block(x, res_hidden_states_tuple=residuals, upsample_size=size, **_text(block, text))
    if unet.conv_norm_out is not None:
        x = unet.conv_act(unet.conv_norm_out(x))
    predicted: Tensor = unet.conv_out(x)
    return predicted


def _text(block: nn.Module, text: Tensor) -> dict[str, Tensor]:
    return {"encoder_hidden_states": text} if getattr(block, "has_cross_attention", False) else {}


def _fold_timestep(unet: UNet2DConditionModel, timestep: int) -> None:
    for name in _UNSUPPORTED:
        if getattr(unet.config, name, None) is not None:
            raise InvalidModel(
                f"unet/config.json: {name} is set; only plain text conditioning works"
            )
    if unet.config.resnet_time_scale_shift != "default":
        raise InvalidModel("unet/config.json: resnet_time_scale_shift must be 'default'")
    with torch.no_grad():
        time = unet.time_proj(torch.tensor([timestep]))
        embedding = F.silu(unet.time_embedding(time.to(unet.dtype)))  # [1, D_t]
        for block in unet.modules():
            if isinstance(block, ResnetBlock2D) and block.time_emb_proj is not None:
                block.conv1.bias.add_(block.time_emb_proj(embedding)[0])
                block.time_emb_proj = None
    unet.time_embedding = None


def _fold_full(vae: AutoencoderKL, factor: float) -> tuple[nn.Module, nn.Module]:
    """Return what maps the direction, times `factor`, to latents, and those to levels of 255."""
    decoder = vae.decoder
    simplify_upsampling(decoder)
    _scale(vae.post_quant_conv.weight, factor / vae.config.scaling_factor)
    _scale(decoder.conv_out.weight, 127.5)
    with torch.no_grad():
        decoder.conv_out.bias.mul_(127.5).add_(128)
    return vae.post_quant_conv, decoder


def _fold_small(vae: AutoencoderTiny, factor: float) -> tuple[nn.Module, nn.Module]:
    """Return the same two of an AutoencoderTiny, whose decoder is 2 f(3 tanh(x / 3)) - 1."""
    layers = simplify_layers(vae.decoder.layers)
    with torch.no_grad():
        layers[0].weight.mul_(3)
        layers[-1].weight.mul_(255)
        layers[-1].bias.mul_(255).add_(0.5)
    return Scale(factor / vae.config.scaling_factor / 3), nn.Sequential(nn.Tanh(), *layers)


class Scale(nn.Module):
    """x times a number, which has the type of the network's weights."""

    def __init__(self, factor: float) -> None:
        """Take the number."""
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(factor), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        return x * self.weight


def _scale(weight: Tensor, factor: float) -> None:
    with torch.no_grad():
        weight.mul_(factor)
