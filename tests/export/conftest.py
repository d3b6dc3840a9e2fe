"""Shrunken Stable Diffusion architectures with random weights, built once per test session."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from distill.architectures import SCHEDULE
from distill.captions import train_bpe
from distill.folders import Teacher, write_student
from sidestep.model_folder import ModelCard, ModelFolder
from sidestep.tokenizer import PromptTokenizer

TOKENS = 77
WIDTH = 128  # of the text
EMBEDDED = Path(__file__).parents[2] / "models" / "emoji"


@pytest.fixture(scope="session")
def shrunken(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of "sd15" or "sd21", each with its blocks but few channels, or "emoji"."""

    @cache
    def build(kind: str) -> Path:
        if kind == "emoji":
            return EMBEDDED
        return write_shrunken(tmp_path_factory.mktemp(kind) / kind, is_sd21=kind == "sd21").path

    return build


def write_shrunken(out: Path, *, is_sd21: bool) -> ModelFolder:
    """Write SD1.5's or SD2.1's architecture at 16x16 latents and 128x128 pixels."""
    tokenizer = out.parent / "tokenizer"
    train_bpe(["red apple", "octopus", "fire engine"], tokenizer, vocab_size=600, max_tokens=TOKENS)
    end = PromptTokenizer(tokenizer, length=TOKENS).end
    torch.manual_seed(0)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=end + 1,
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            hidden_act="gelu" if is_sd21 else "quick_gelu",
            bos_token_id=end - 1,
            eos_token_id=end,
            pad_token_id=end,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64, 128, 128),
        layers_per_block=2,
        cross_attention_dim=WIDTH,
        attention_head_dim=(1, 2, 4, 4) if is_sd21 else 8,
        use_linear_projection=is_sd21,
    )
    vae = AutoencoderKL(
        sample_size=128,
        block_out_channels=(32, 32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
    )
    with torch.no_grad():
        vae.decoder.conv_out.weight.mul_(2)  # random weights draw flat pictures
    schedule = {**SCHEDULE, "prediction_type": "v_prediction" if is_sd21 else "epsilon"}
    teacher = Teacher(text_encoder, unet, vae, tokenizer, schedule)
    card = ModelCard(
        name=out.name,
        latent_shape=teacher.latent_shape,
        image_size=teacher.image_size,
        tokens=TOKENS,
        schedule={**schedule, "init_timestep": 625},
    )
    return write_student(out, teacher, unet, card)
