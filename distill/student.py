"""Distil a teacher's folder into a model folder, with grids to watch on the way."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from distill.autoencoder import to_pictures
from distill.folders import Teacher, load_teacher, read_training, write_student
from distill.losses import one_step
from distill.processes import current
from distill.progress import save_grid
from distill.sid_lsg import DistillOptions, Prompts, as_network, distil
from sidestep.errors import InvalidTraining
from sidestep.model_folder import ModelCard, ModelFolder
from sidestep.noise import latent_noise
from sidestep.schedule import NoiseSchedule
from sidestep.tokenizer import PromptTokenizer

INIT_TIMESTEP = 625
EXAMPLES = (
    "red apple",
    "octopus",
    "fire engine",
    "sunflower",
    "pizza",
    "cat face",
    "rocket",
    "blue heart",
    "snowman",
    "soccer ball",
)


def distil_folder(
    teacher_folder: Path,
    prompts_file: Path,
    out: Path,
    options: DistillOptions,
    *,
    name: str = "model",
    device: str = "cpu",
) -> ModelFolder:
    """Distil and write `out/model`; running it again resumes.

    Raises InvalidTraining for an unreadable prompts file, InvalidModel for a damaged teacher.
    """
    prompts = read_prompts(prompts_file)
    teacher = load_teacher(teacher_folder)
    tokenizer = PromptTokenizer(teacher.tokenizer, length=teacher.tokens)
    texts = encode_texts(teacher, tokenizer, prompts, device)
    null_text = encode_texts(teacher, tokenizer, [""], device)
    schedule = NoiseSchedule.from_config(teacher.schedule, init_timestep=INIT_TIMESTEP)
    unet = teacher.unet.to(device, memory_format=torch.channels_last)

    example_texts = encode_texts(teacher, tokenizer, list(EXAMPLES), device)
    noise = torch.from_numpy(latent_noise([0] * len(EXAMPLES), teacher.latent_shape)).to(device)

    def save_sample(step: int, student: UNet2DConditionModel) -> None:
        pixels = draw_one_step(student, teacher, schedule, noise, example_texts)
        save_grid(out / f"samples-{step:06d}.png", [list(pixels)])

    student = distil(
        unet,
        Prompts(texts, null_text),
        schedule,
        options,
        out,
        on_checkpoint=save_sample,
    )
    card = ModelCard(
        name=name,
        latent_shape=teacher.latent_shape,
        image_size=teacher.image_size,
        tokens=teacher.tokens,
        schedule={**teacher.schedule, "init_timestep": INIT_TIMESTEP},
        recipe=_recipe(options, len(prompts), teacher_folder),
        examples=EXAMPLES,
    )
    processes = current()
    if processes.writes:
        write_student(out / "model", teacher, student.cpu(), card)
    processes.wait()
    return ModelFolder.open(out / "model")


def read_prompts(path: Path) -> list[str]:
    """Read one prompt per line, UTF-8; raises InvalidTraining if there are none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidTraining(f"--prompts {path} cannot be read as UTF-8 text ({error})") from error
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise InvalidTraining(f"--prompts {path} has no prompts; write one per line")
    return prompts


@torch.no_grad()
def encode_texts(
    teacher: Teacher, tokenizer: PromptTokenizer, prompts: list[str], device: str
) -> Tensor:
    """Encode prompts once with the frozen text encoder: [P, L, D]."""
    encoder = teacher.text_encoder.to(device)
    ids = torch.from_numpy(np.stack([tokenizer.encode(prompt).ids for prompt in prompts]))
    parts = [encoder(part.to(device)).last_hidden_state for part in ids.split(256)]
    return torch.cat(parts)


@torch.no_grad()
def draw_one_step(
    student: UNet2DConditionModel,
    teacher: Teacher,
    schedule: NoiseSchedule,
    noise: Tensor,
    texts: Tensor,
) -> Any:
    """Draw pictures uint8 [B, H, W, 3] from noise [B, 4, h, w] with one evaluation."""
    x_g = one_step(as_network(student, autocast=False), schedule, noise, texts)
    vae = teacher.vae.to(noise.device)
    return to_pictures(vae.decode(x_g / vae.config.scaling_factor).sample)


def _recipe(options: DistillOptions, prompts: int, teacher: Path) -> dict[str, Any]:
    return {
        "method": "SiD-LSG",
        "prompts": prompts,
        "images_seen": options.iterations * options.batch,
        **asdict(options),
        "teacher": read_training(teacher),
    }
