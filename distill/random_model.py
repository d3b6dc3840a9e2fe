"""A whole model folder with random weights: what costs no download, for all that measures cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModel

from distill.architectures import ARCHITECTURES, TOKENS, VOCABULARY, Architecture
from distill.captions import letter_merges, write_tokenizer
from distill.folders import save_network, write_teacher_scheduler
from sidestep.files import atomic_folder, check_new_folder
from sidestep.model_folder import ModelCard, ModelFolder, write_card

PRECISIONS = {"fp16": torch.float16, "fp32": torch.float32}
INIT_TIMESTEP = 625


def new_random_model(
    name: str,
    out: Path,
    *,
    precision: str = "fp16",
    shrink: int = 1,
    size_px: int | None = None,
    seed: int = 0,
) -> ModelFolder:
    """Write a folder that is a model for `export` and `bench`, and a teacher for `distill`.

    name: a key of ARCHITECTURES; shrink, size_px: see `Architecture`
    Raises InvalidModel, before anything is built, if `out` exists or its disk is too small.
    """
    architecture = ARCHITECTURES[name].shrunk(shrink)
    architecture = architecture.sized(size_px) if size_px else architecture
    dtype = PRECISIONS[precision]
    count = sum(count_parameters(build) for build in builders(architecture).values())
    check_new_folder(out, count * dtype.itemsize + 4_000_000)  # and the tokenizer
    with (
        atomic_folder(out) as new,
        tqdm(total=count, unit="parameter", unit_scale=True) as progress,
    ):
        for index, (part, build) in enumerate(builders(architecture).items()):
            progress.set_description(part)
            draw = torch.Generator().manual_seed(3 * seed + index)
            save_network(_filled(build, dtype, draw, progress.update), new / part)
        merges = letter_merges(VOCABULARY - 514)
        (new / "tokenizer").mkdir()
        write_tokenizer(merges, new / "tokenizer", max_tokens=TOKENS, pad=architecture.pad)
        write_teacher_scheduler(new, architecture.schedule)
        recipe = {"method": "random weights", "architecture": name, "shrink": shrink, "seed": seed}
        write_card(new, _card(out.name, architecture, recipe))
    return ModelFolder.open(out)


def builders(architecture: Architecture) -> dict[str, Callable[[], nn.Module]]:
    """Return what builds each network, by its folder; on the meta device they cost nothing."""
    return {
        "text_encoder": lambda: CLIPTextModel(CLIPTextConfig(**architecture.text_encoder)),
        "unet": lambda: UNet2DConditionModel(**architecture.unet),
        "vae": lambda: AutoencoderKL(**architecture.vae),
    }


def count_parameters(build: Callable[[], nn.Module]) -> int:
    """Count a network's parameters without allocating them."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build().parameters())


def _filled(
    build: Callable[[], nn.Module],
    dtype: torch.dtype,
    draw: torch.Generator,
    advance: Callable[[int], Any],
) -> nn.Module:
    """Build a network whose weights are drawn once, in `dtype`, one tensor after another."""
    with torch.device("meta"):
        network = build()
    weights = {}
    for name, parameter in network.named_parameters():
        weights[name] = _drawn(name, parameter.shape, draw).to(dtype)
        advance(parameter.numel())
    network.load_state_dict(weights, assign=True)
    return network


def _drawn(name: str, shape: torch.Size, draw: torch.Generator) -> Tensor:
    """Draw weights that keep activations near unit variance: normal, with 1 / inputs."""
    if len(shape) > 1:
        return torch.randn(shape, generator=draw) / math.sqrt(math.prod(shape[1:]))
    return torch.ones(shape) if name.endswith("weight") else torch.zeros(shape)


def _card(name: str, architecture: Architecture, recipe: dict[str, Any]) -> ModelCard:
    return ModelCard(
        name=name,
        latent_shape=architecture.latent_shape,
        image_size=architecture.image_size,
        tokens=TOKENS,
        schedule={**architecture.schedule, "init_timestep": INIT_TIMESTEP},
        recipe=recipe,
    )
