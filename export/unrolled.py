"""A generator of several steps as one graph: its networks once, evaluated one after another.

Only the biases that the timesteps add differ from step to step, and lie in tables of N rows. The
noise levels stay beside the UNet, since scaling 4 x h x w numbers costs nothing; x 127.5 + 128
joins the decoder's last weights as it does for one step (`export/folding.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.folding import FoldedGenerator, fold_decoder, fold_unet
from export.simplify import simplify_text_encoder
from sidestep.engines.torch_module import GeneratorModule, to_pixels


class UnrolledGenerator(nn.Module):
    """The same function as a generator of N > 1 steps, with its time embedding folded."""

    def __init__(self, generator: GeneratorModule) -> None:
        """Fold `generator`, whose weights are taken over and changed: there is room for one of it.

        Raises InvalidModel for a UNet that needs more inputs.
        """
        super().__init__()
        self.schedule = generator.schedule
        self.text_encoder = generator.text_encoder
        self.unet = generator.unet
        self.steps: Tensor
        self.register_buffer("steps", torch.arange(self.schedule.steps))
        simplify_text_encoder(self.text_encoder)
        fold_unet(self.unet, self.schedule.timesteps)
        self.post_quant_conv, self.decoder = fold_decoder(generator.vae, 1.0)

    def forward(self, input_ids: Tensor, noise: Tensor) -> Tensor:
        """Map ids int64 [B, L] and noise [B, N, 4, h, w] to pixels uint8 [B, H, W, 3].

        Latents stay in the noise's type between the steps, whatever the networks' is.
        """
        dtype: torch.dtype = self.unet.conv_in.weight.dtype
        text = self.text_encoder(input_ids).last_hidden_state  # [B, L, D]

        def predict(x_t: Tensor, j: int) -> Tensor:
            predicted: Tensor = self.unet(x_t.to(dtype), text, self.steps[j : j + 1])
            return predicted.to(noise.dtype)  # [B, 4, h, w]

        x_g = self.schedule.draw(noise, predict)  # [B, 4, h, w]
        latents = self.post_quant_conv(x_g.to(self.post_quant_conv.weight.dtype))
        return to_pixels(self.decoder(latents))  # [B, H, W, 3]


def fold(generator: GeneratorModule) -> FoldedGenerator | UnrolledGenerator:
    """Fold a generator of one step or several, whose weights are taken over and changed."""
    one_step = generator.schedule.steps == 1
    return FoldedGenerator(generator) if one_step else UnrolledGenerator(generator)
