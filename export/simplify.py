"""Replace a network's modules by equal ones whose graphs are smaller, before it is exported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from transformers import CLIPTextModel


class DoublingConv(nn.Module):
    """conv(upsample(x)) for a 3x3 convolution and nearest-neighbour doubling, at 4/9 of its cost.

    Under a 3x3 kernel lie only 2x2 different pixels of the small image, so taps that see the same
    one are summed. The four positions within a doubled pixel become one 2x2 convolution to 4 C
    channels, woven together by `pixel_shuffle`; the outermost ring belongs to pixels outside.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        """Sum the taps of `conv`, which has stride 1 and padding 1."""
        super().__init__()
        kernels = conv.weight.new_zeros(conv.out_channels, 4, conv.in_channels, 2, 2)
        seen = ((0, 1, 1), (0, 0, 1))  # at position 0 and 1: the pixel that each tap sees
        for position, (y, x) in enumerate(product((1, 0), (1, 0))):
            for row, column in product(range(3), range(3)):
                tap = conv.weight[:, :, row, column].detach()
                kernels[:, position, :, seen[y][row], seen[x][column]] += tap
        bias = conv.bias if conv.bias is not None else conv.weight.new_zeros(conv.out_channels)
        self.kernels = nn.Parameter(kernels.flatten(0, 1), requires_grad=False)
        self.bias = nn.Parameter(bias.detach().repeat_interleave(4), requires_grad=False)

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Map [B, C, h, w] to [B, C', 2h, 2w], which is the `output_size` of a fitting latent."""
        doubled = F.pixel_shuffle(F.conv2d(x, self.kernels, self.bias, padding=1), 2)
        return doubled[:, :, 1:-1, 1:-1]


class PlainAttention:
    """softmax(q k^T) v of diffusers' `Attention`, with its scale inside the weights of q.

    PyTorch's fused attention would be exported as twice as many nodes. For layers without biases,
    as Stable Diffusion's are.
    """

    def __call__(
        self,
        attention: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """Attend from [B, T, D] to itself or to the text [B, L, D']; returns [B, T, D]."""
        heads = attention.heads
        if encoder_hidden_states is None:
            q, k, v = _project(
                hidden_states, (attention.to_q, attention.to_k, attention.to_v), heads
            )
        else:
            (q,) = _project(hidden_states, (attention.to_q,), heads)
            k, v = _project(encoder_hidden_states, (attention.to_k, attention.to_v), heads)
        seen = (q @ k.transpose(-1, -2)).softmax(dim=-1) @ v  # [1, B, heads, T, D / heads]
        output: Tensor = attention.to_out[0](seen.squeeze(0).transpose(1, 2).flatten(2))
        return output


def _project(x: Tensor, layers: Sequence[nn.Linear], heads: int) -> tuple[Tensor, ...]:
    """Apply several layers without biases to x [B, T, D] at once: each [1, B, heads, T, D / heads].

    Their weights are joined when an engine loads the graph.
    """
    joined: Tensor = F.linear(x, torch.cat([layer.weight for layer in layers]))
    parts: Tensor = joined.unflatten(2, (len(layers), heads, -1)).permute(2, 0, 3, 1, 4)
    return parts.chunk(len(layers))


def simplify_unet(unet: UNet2DConditionModel) -> None:
    """Simplify the attention of a UNet in place, and its upsampling where that is doubling.

    It is not where a level's size is odd: 13 is halved to 7, which becomes 13 again and not 14.
    """
    for attention in unet.modules():
        if isinstance(attention, Attention):
            with torch.no_grad():
                for parameter in attention.to_q.parameters():
                    parameter.mul_(attention.scale)
    unet.set_attn_processor(PlainAttention())
    if unet.config.sample_size % 2 ** (len(unet.config.block_out_channels) - 1) == 0:
        simplify_upsampling(unet)


def simplify_text_encoder(text_encoder: CLIPTextModel) -> None:
    """Write attention out, since a causal prompt has no row without a token to attend to."""
    text_encoder.set_attn_implementation("eager")


def simplify_upsampling(network: nn.Module) -> None:
    """Put a `DoublingConv` in the place of every upsampling with a 3x3 convolution."""
    for parent in network.modules():
        for name, module in parent.named_children():
            if isinstance(module, Upsample2D) and isinstance(module.conv, nn.Conv2d):
                parent.register_module(name, DoublingConv(module.conv))


def simplify_layers(layers: Iterable[nn.Module]) -> list[Any]:
    """Join each doubling of an AutoencoderTiny's decoder with the convolution that follows it."""
    joined: list[nn.Module] = []
    for layer in layers:
        before = joined[-1] if joined else None
        doubles = isinstance(before, nn.Upsample) and (before.mode, before.scale_factor) == (
            "nearest",
            2,
        )
        if doubles and isinstance(layer, nn.Conv2d):
            joined[-1] = DoublingConv(layer)
        else:
            joined.append(layer)
    return joined
