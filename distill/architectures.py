"""Stable Diffusion's architectures as a table: what `sidestep new` builds.

| | UNet | VAE | text encoder |
|---|---|---|---|
| sd15 | 859,520,964 | 83,653,863 | 123,060,480 |
| sd21-base, sd21 | 865,910,724 | 83,653,863 | 340,387,840 |

Values are the published models' own configs; what they leave to diffusers' defaults is left here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

TOKENS = 77
VOCABULARY = 49_408  # CLIP's
VAE_FACTOR = 8  # pixels per latent, on each side

# Stable Diffusion's schedule, which the embedded teacher shares.
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
}


def unusual_part(schedule: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a schedule is not as in Stable Diffusion's usual one."""
    return {key: value for key, value in schedule.items() if SCHEDULE.get(key) != value}


_UNET: dict[str, Any] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": 8,  # diffusers' name for the number of heads
    "cross_attention_dim": 768,
    "norm_num_groups": 32,
}
_UNET_2 = {
    **_UNET,
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
_VAE: dict[str, Any] = {
    "sample_size": 512,
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "scaling_factor": 0.18215,
}
_TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": TOKENS,
    "bos_token_id": VOCABULARY - 2,
    "eos_token_id": VOCABULARY - 1,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
    "pad_token_id": VOCABULARY - 1,
}
_TEXT_2 = {
    **_TEXT,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
    "projection_dim": 512,
    "pad_token_id": 0,
}


@dataclass(frozen=True)
class Architecture:
    """The configs of a model's three networks, its schedule and what pads its texts."""

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    text_encoder: Mapping[str, Any]
    schedule: Mapping[str, Any]
    pad: str

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(4, h, w)."""
        return 4, self.unet["sample_size"], self.unet["sample_size"]

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.vae["sample_size"], self.vae["sample_size"]

    def shrunk(self, divisor: int) -> Architecture:
        """Divide every width and number of norm groups by 1, 2, 4 or 8.

        Blocks, layers, heads and vocabulary stay: what runs on the small one runs on the whole.
        """
        widths = ("cross_attention_dim", "hidden_size", "intermediate_size", "norm_num_groups")

        def smaller(config: Mapping[str, Any]) -> dict[str, Any]:
            less = {key: config[key] // divisor for key in widths if key in config}
            if channels := config.get("block_out_channels"):
                less["block_out_channels"] = tuple(width // divisor for width in channels)
            return {**config, **less}

        return replace(
            self,
            unet=smaller(self.unet),
            vae=smaller(self.vae),
            text_encoder=smaller(self.text_encoder),
        )

    def sized(self, size_px: int) -> Architecture:
        """Let the pictures be `size_px` wide and high, a multiple of 64; no weight changes."""
        return replace(
            self,
            unet={**self.unet, "sample_size": size_px // VAE_FACTOR},
            vae={**self.vae, "sample_size": size_px},
        )


ARCHITECTURES = {
    "sd15": Architecture(_UNET, _VAE, _TEXT, SCHEDULE, "<|endoftext|>"),
    "sd21-base": Architecture(_UNET_2, _VAE, _TEXT_2, SCHEDULE, "!"),
    "sd21": Architecture(
        {**_UNET_2, "sample_size": 96, "upcast_attention": True},
        {**_VAE, "sample_size": 768},
        _TEXT_2,
        {**SCHEDULE, "prediction_type": "v_prediction"},
        "!",
    ),
}
