"""Fold the generator's constants into its weights, exactly, before it is exported.

The timestep never changes, so `time_emb_proj(silu(emb))` joins each residual block's first bias
and all of the time embedding disappears. sigma joins `conv_in`, sigma / (a * scaling) joins
`post_quant_conv`, and x 127.5 + 128 joins the decoder's `conv_out`. The small decoder takes and
gives other ranges, which join its own first and last weights.

Several steps are unrolled (`export/unrolled.py`): they share all weights, so that what differs from
one to the next cannot join them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

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
from sidestep.engines.torch_module import GeneratorModule, to_pixels
from sidestep.errors import InvalidModel

_UNSUPPORTED = (
    "class_embed_type",
    "addition_embed_type",
    "encoder_hid_dim_type",
    "time_cond_proj_dim",
)


class FoldedGenerator(nn.Module):
    """The same function as `GeneratorModule`, with its constants inside its weights."""

    def __init__(self, generator: GeneratorModule) -> None:
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
        simplify_text_encoder(self.text_encoder)
        fold_unet(self.unet, schedule.timesteps)
        _scale(self.unet.conv_in.weight, sigma)
        factor = sigma * (1 if self.v_prediction else 1 / a)
        self.post_quant_conv, self.decoder = fold_decoder(generator.vae, factor)

    def forward(self, input_ids: Tensor, noise: Tensor) -> Tensor:
        """Map ids int64 [B, L] and noise [B, 4, h, w] to pixels uint8 [B, H, W, 3]."""
        text = self.text_encoder(input_ids).last_hidden_state  # [B, L, D]
        predicted = self.unet(noise.to(self.unet.conv_in.weight.dtype), text)  # [B, 4, h, w]
        direction = self.a * noise - predicted if self.v_prediction else noise - predicted
        latents = self.post_quant_conv(direction.to(self.post_quant_conv.weight.dtype))
        return to_pixels(self.decoder(latents))  # [B, H, W, 3]


class Prediction(nn.Module):
    """The end of a UNet, norm, activation and convolution, which stays in fp32.

    x_g = (z - sigma e) / a multiplies what is rounded off the prediction e by sigma / a, 2.5 at
    t = 625, and these layers cost next to nothing beside the others.
    """

    in_fp32 = True

    def __init__(self, unet: UNet2DConditionModel) -> None:
        """Take the layers over from `unet`."""
        super().__init__()
        self.norm, self.act, self.conv = unet.conv_norm_out, unet.conv_act, unet.conv_out

    def forward(self, x: Tensor) -> Tensor:
        """Map the last block's features [B, C, h, w] to the prediction, fp32 [B, 4, h, w]."""
        x = x.float()
        if self.norm is not None:
            x = self.act(self.norm(x))
        predicted: Tensor = self.conv(x)
        return predicted


def fold_unet(unet: UNet2DConditionModel, timesteps: Sequence[int]) -> None:
    """Fold a UNet's timesteps into it; afterwards it is called as `unet_without_time` is.

    Raises InvalidModel for one that needs more inputs.
    """
    fold_timesteps(unet, timesteps)
    simplify_unet(unet)
    keep_prediction(unet)
    unet.forward = partial(unet_without_time, unet)


def keep_prediction(unet: UNet2DConditionModel) -> None:
    """Put a `Prediction` in the place of what the UNet ends with."""
    unet.conv_out = Prediction(unet)
    unet.conv_norm_out = unet.conv_act = None  # an export needs each module to have one name


def unet_without_time(
    unet: UNet2DConditionModel, x: Tensor, text: Tensor, step: Tensor | None = None
) -> Tensor:
    """Run a UNet whose timesteps were folded: the blocks of `UNet2DConditionModel.forward`.

    unet: with a `Prediction` for its `conv_out`
    step: the number j of one of several timesteps, int64 [1]
    """
    x = unet.conv_in(x)
    skips = [x]
    for block in unet.down_blocks:
        x, residuals = block(x, temb=step, **_text(block, text))
        skips.extend(residuals)
    x = unet.mid_block(x, temb=step, **_text(unet.mid_block, text))
    for block in unet.up_blocks:
        count = len(block.resnets)
        skips, residuals = skips[:-count], tuple(skips[-count:])
        size = skips[-1].shape[2:] if block is not unet.up_blocks[-1] else None
        given = {"temb": step, "upsample_size": size, **_text(block, text)}
        x = block(x, res_hidden_states_tuple=residuals, **given)
    predicted: Tensor = unet.conv_out(x)
    return predicted


def _text(block: nn.Module, text: Tensor) -> dict[str, Any]:
    return {"encoder_hidden_states": text} if getattr(block, "has_cross_attention", False) else {}


def fold_timesteps(unet: UNet2DConditionModel, timesteps: Sequence[int]) -> None:
    """Compute what the timesteps add to each residual block, and forget the time embedding.

    One timestep joins the block's first bias. Of several, each has a row of a table, from which
    the block takes the step's: `nn.Embedding` stands where `time_emb_proj` was.
    Raises InvalidModel for a UNet that needs more inputs.
    """
    for name in _UNSUPPORTED:
        if getattr(unet.config, name, None) is not None:
            raise InvalidModel(
                f"unet/config.json: {name} is set; only plain text conditioning works"
            )
    if unet.config.resnet_time_scale_shift != "default":
        raise InvalidModel("unet/config.json: resnet_time_scale_shift must be 'default'")
    with torch.no_grad():
        time = unet.time_proj(torch.tensor(timesteps))
        embedding = F.silu(unet.time_embedding(time.to(unet.dtype)))  # [k, D_t]
        blocks = [block for block in unet.modules() if isinstance(block, ResnetBlock2D)]
        for block in (block for block in blocks if block.time_emb_proj is not None):
            biases = block.time_emb_proj(embedding)  # [k, C]
            if len(timesteps) == 1:
                block.conv1.bias.add_(biases[0])
                block.time_emb_proj = None
            else:
                block.time_emb_proj = nn.Embedding.from_pretrained(biases)
                block.skip_time_act = True  # it was applied here
    unet.time_embedding = None


def fold_decoder(
    vae: AutoencoderKL | AutoencoderTiny, factor: float
) -> tuple[nn.Module, nn.Module]:
    """Return what maps latents divided by `factor` into the decoder, and it to levels of 255."""
    return _fold_small(vae, factor) if isinstance(vae, AutoencoderTiny) else _fold_full(vae, factor)


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
