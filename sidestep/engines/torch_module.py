"""The generator as a torch module: the reference that every other engine must equal.

B batch  L tokens  D text width  4 x h x w latents  H x W pixels
"""

from __future__ import annotations

import json

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, ModelMixin, UNet2DConditionModel
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import CLIPTextModel

from sidestep.errors import InvalidModel, one_line
from sidestep.model_folder import WEIGHTS, ModelFolder
from sidestep.schedule import NoiseSchedule


class GeneratorModule(nn.Module):
    """x_g = G(z, c) decoded to pixels (SiD-LSG, equation 9), in diffusers' own networks.

    Where the schedule has several steps, G is their chain and z the noise of each of them.
    """

    def __init__(
        self,
        text_encoder: CLIPTextModel,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL | AutoencoderTiny,
        schedule: NoiseSchedule,
    ) -> None:
        """Join the three networks at the schedule's timesteps."""
        super().__init__()
        self.text_encoder = text_encoder
        self.unet = unet
        self.vae = vae
        self.schedule = schedule

    def forward(self, input_ids: Tensor, noise: Tensor) -> Tensor:
        """Map ids int64 [B, L] and noise [B, 4, h, w] to pixels uint8 [B, H, W, 3]."""
        return to_pixels(self.decode(self.latents(input_ids, noise)) * 127.5 + 128)

    def latents(self, input_ids: Tensor, noise: Tensor) -> Tensor:
        """Map ids int64 [B, L] and noise [B, 4, h, w] to clean latents x_g [B, 4, h, w]."""
        text = self.text_encoder(input_ids).last_hidden_state  # [B, L, D]
        t = self.schedule.timesteps
        x_g: Tensor = self.schedule.draw(noise, lambda x_t, j: self.unet(x_t, t[j], text).sample)
        return x_g

    def decode(self, x_g: Tensor) -> Tensor:
        """Map latents [B, 4, h, w] to pictures [B, 3, H, W] in -1 ... 1."""
        image: Tensor = self.vae.decode(x_g / self.vae.config.scaling_factor).sample
        return image


def to_pixels(levels: Tensor) -> Tensor:
    """Clamp and truncate [B, 3, H, W] in 0..255 to uint8 [B, H, W, 3].

    The transpose comes before the cast, because TensorRT refuses uint8 inside a graph.
    """
    return levels.clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8)


def load_module(folder: ModelFolder) -> GeneratorModule:
    """Read a folder's networks in fp32 evaluation mode, from safetensors only.

    Raises InvalidModel naming a missing or damaged file, or networks that do not fit together.
    """
    names = WEIGHTS[folder.decoder]
    folder.check(folder.files_under(*names))
    check_decoder(folder)
    decoder = AutoencoderKL if folder.decoder == "full" else AutoencoderTiny
    networks = []
    for kind, name in zip((CLIPTextModel, UNet2DConditionModel, decoder), names, strict=True):
        try:
            network = kind.from_pretrained(
                folder.path / name, use_safetensors=True, local_files_only=True, **quiet(kind)
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = one_line(error)
            raise InvalidModel(f"{folder.path / name} cannot be read ({reason})") from error
        networks.append(network.float().eval().requires_grad_(False))
    text_encoder, unet, vae = networks
    return GeneratorModule(text_encoder, unet, vae, folder.schedule).eval()


def quiet(kind: type) -> dict[str, bool]:
    """Return what keeps diffusers from advising a package on every network that it reads."""
    return {"low_cpu_mem_usage": False} if issubclass(kind, ModelMixin) else {}


def check_decoder(folder: ModelFolder) -> None:
    """Compare the decoder's configuration with the card; raises InvalidModel where it misfits."""
    path = folder.path / WEIGHTS[folder.decoder][-1] / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        widths = "block_out_channels" if folder.decoder == "full" else "decoder_block_out_channels"
        channels, levels = int(config["latent_channels"]), len(config[widths])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InvalidModel(f"{path} is not a decoder's configuration ({error!r})") from error
    (latents, *size), image_size = folder.card.latent_shape, folder.card.image_size
    if channels != latents:
        raise InvalidModel(f"{path}: latent_channels is {channels}, but the latents have {latents}")
    if (drawn := tuple(2 ** (levels - 1) * side for side in size)) != image_size:
        raise InvalidModel(
            f"{path}: {widths} has {levels} levels, which draw {drawn[0]}x{drawn[1]} "
            f"pixels from these latents, but the card says {image_size[0]}x{image_size[1]}"
        )
