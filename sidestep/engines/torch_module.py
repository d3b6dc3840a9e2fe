"""The one-step generator as a torch module: the reference that every other engine must equal.

B batch  L tokens  D text width  4 x h x w latents  H x W pixels
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import CLIPTextModel

from sidestep.errors import InvalidModel
from sidestep.model_folder import ModelFolder
from sidestep.schedule import NoiseSchedule


class OneStepGenerator(nn.Module):
    """x_g = G(z, c) decoded to pixels (SiD-LSG, equation 9), in diffusers' own networks."""

    def __init__(
        self,
        text_encoder: CLIPTextModel,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        schedule: NoiseSchedule,
    ) -> None:
        """Join the three networks at the schedule's `init_timestep`."""
        super().__init__()
        self.text_encoder = text_encoder
        self.unet = unet
        self.vae = vae
        self.schedule = schedule

    def forward(self, input_ids: Tensor, noise: Tensor) -> Tensor:
        """Map ids int64 [B, L] and noise [B, 4, h, w] to pixels uint8 [B, H, W, 3]."""
        a, sigma, t = self.schedule.a_init, self.schedule.sigma_init, self.schedule.init_timestep
        text = self.text_encoder(input_ids).last_hidden_state  # [B, L, D]
        x_t = sigma * noise
        predicted = self.unet(x_t, t, text).sample  # [B, 4, h, w]
        if self.schedule.prediction_type == "v_prediction":
            x_g = a * x_t - sigma * predicted
        else:
            x_g = (x_t - sigma * predicted) / a
        image = self.vae.decode(x_g / self.vae.config.scaling_factor).sample  # [B, 3, H, W]
        return to_pixels(image * 127.5 + 128)


def to_pixels(levels: Tensor) -> Tensor:
    """Clamp and truncate [B, 3, H, W] in 0..255 to uint8 [B, H, W, 3].

    The transpose comes before the cast, because TensorRT refuses uint8 inside a graph.
    """
    return levels.clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8)


def load_module(folder: ModelFolder) -> OneStepGenerator:
    """Read a folder's networks in fp32 evaluation mode, from safetensors only.

    Raises InvalidModel naming a missing or damaged file.
    """
    folder.check(folder.files_under("text_encoder", "unet", "vae"))
    networks = []
    for kind, name in (
        (CLIPTextModel, "text_encoder"),
        (UNet2DConditionModel, "unet"),
        (AutoencoderKL, "vae"),
    ):
        try:
            network = kind.from_pretrained(
                folder.path / name, use_safetensors=True, local_files_only=True
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise InvalidModel(f"{folder.path / name} cannot be read ({error})") from error
        networks.append(network.float().eval().requires_grad_(False))
    text_encoder, unet, vae = networks
    return OneStepGenerator(text_encoder, unet, vae, folder.schedule).eval()
