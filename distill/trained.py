"""A network while it is trained: its passes, gradients, optimizer and share of the devices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard

from distill.adam import AdamWithoutMomentum
from distill.attention import use_fastest_attention
from distill.options import DistillOptions
from distill.precision import PRECISIONS, Precision
from distill.processes import current


def prepare(
    unet: UNet2DConditionModel, options: DistillOptions, *, weights: torch.dtype | None = None
) -> UNet2DConditionModel:
    """Make a UNet ready for many passes: number format, memory layout, shards, compilation.

    weights: their format where it is not the run's
    """
    nn.Module.to(unet, dtype=weights or PRECISIONS[options.precision].weights)
    use_fastest_attention(unet)
    if options.recompute:
        unet.enable_gradient_checkpointing()
    if options.parallel == "fsdp" and current().count > 1:
        for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
            fully_shard(block)
        fully_shard(unet)
    else:
        unet.to(memory_format=torch.channels_last)  # which shards cannot have
    if options.compile:
        unet.compile()
    return unet


class Scoring:
    """A UNet as the losses call it: (x_t [B, 4, h, w], t [B], text [B, L, D]) -> prediction."""

    def __init__(self, unet: UNet2DConditionModel, precision: Precision) -> None:
        self.unet = unet
        self._precision = precision

    def __call__(self, x_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """Predict in the run's number format and in channels-last."""
        formats = self._precision
        x_t = x_t.to(formats.weights).contiguous(memory_format=torch.channels_last)
        on = formats.autocast is not None
        with torch.autocast(x_t.device.type, formats.autocast, enabled=on):
            sample: Tensor = self.unet(x_t, t, text.to(formats.weights)).sample
        return sample

    def critic(self, x_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """Judge how real x_t looks: the channel mean of the middle block, [B, h', w'] (SiDA).

        The upper half of the network is evaluated in vain: its shards and compiled code know only
        the whole.
        """
        features: list[Tensor] = []
        hook = self.unet.mid_block.register_forward_hook(
            lambda block, arguments, output: features.append(output)
        )
        try:
            self(x_t, t, text)
        finally:
            hook.remove()
        return features[0].mean(1)


class Trained(Scoring):
    """A UNet with its optimizer, Adam with beta1 = 0."""

    def __init__(
        self, unet: UNet2DConditionModel, options: DistillOptions, *, clip: bool = False
    ) -> None:
        """Take the network; `clip` bounds its gradients as the format wants a generator's."""
        super().__init__(unet, PRECISIONS[options.precision])
        self.adam = AdamWithoutMomentum(
            unet.parameters(), lr=options.learning_rate, eps=self._precision.eps
        )
        device = next(unet.parameters()).device.type
        # The losses are sums over C, H, W, large already: the scale starts at the authors' 1.
        self.scaler = torch.amp.GradScaler(device, init_scale=1.0, enabled=self._precision.scaled)
        self._clip = self._precision.clip if clip else self._precision.largest

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add a loss's gradients; `last`: of this update, so that they may be exchanged."""
        if isinstance(self.unet, FSDPModule):
            self.unet.set_requires_gradient_sync(last)
        self.scaler.scale(loss).backward()

    def update(self) -> None:
        """Apply the gradients, with nan as 0 and infinities as ±1e5 or the bound, and free them.

        They are sums over passes and means over processes: one picture's nan voids them all.
        Scaled gradients that are not finite skip the update instead, and lower the scale.
        """
        weights = list(self.unet.parameters())
        if not isinstance(self.unet, FSDPModule):  # which has averaged them in the backward pass
            current().average_gradients(weights)
        self.scaler.unscale_(self.adam)
        if not self.scaler.is_enabled():
            for weight in weights:
                if weight.grad is not None:
                    torch.nan_to_num_(weight.grad, nan=0.0, posinf=1e5, neginf=-1e5)
        if self._clip is not None:
            nn.utils.clip_grad_value_(weights, self._clip)
        self.scaler.step(self.adam)
        self.scaler.update()
        self.adam.zero_grad(set_to_none=True)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let gradients pass through the network and none arrive at its weights."""
        self.unet.requires_grad_(False)
        try:
            yield
        finally:
            self.unet.requires_grad_(True)
