"""Distil a teacher's folder into a model folder, with grids to watch on the way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from distill.architectures import unusual_part
from distill.autoencoder import to_pictures
from distill.checkpoints import last_step
from distill.few_steps import several_steps
from distill.folders import Teacher, load_teacher, read_training, weights_hash, write_student
from distill.licences import read_licences
from distill.losses import Network
from distill.options import DistillOptions
from distill.precision import PRECISIONS
from distill.processes import current, training_device
from distill.progress import logged_losses, save_grid
from distill.real_pictures import RealLatents, encode_real
from distill.sid_lsg import Run, distil
from distill.texts import Encode, cache_texts, hash_encoder
from sidestep.errors import InvalidModel, InvalidTraining
from sidestep.model_folder import ModelCard, ModelFolder
from sidestep.noise import latent_noise
from sidestep.schedule import NoiseSchedule
from sidestep.tokenizer import PromptTokenizer

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
    prompts: Sequence[str],
    out: Path,
    options: DistillOptions,
    *,
    name: str = "model",
    device: str = "cpu",
) -> ModelFolder:
    """Distil and write `out/model`; running it again resumes.

    A finished student that stands there whole is left as it is, with all that was compiled with it.
    Raises InvalidTraining for options that this machine or the run in `out` cannot have, and where
    the memory is too small; InvalidModel for a damaged teacher; Stopped after a Ctrl-C.
    """
    where = training_device(device)
    teacher = load_teacher(teacher_folder)
    encode = _encoder(teacher, options, where)
    key = hash_encoder(teacher.text_encoder, teacher.tokenizer, PRECISIONS[options.precision].text)
    schedule = NoiseSchedule.from_config(
        teacher.schedule, init_timestep=options.init_timestep, steps=options.steps
    )
    examples = tuple(p for p in EXAMPLES if p in set(prompts)) or tuple(prompts[: len(EXAMPLES)])
    identity = identity_of(teacher, prompts)
    try:
        real = _real(teacher, options, out, where)
        if real is not None:
            identity["real_images"] = real.identity
        run = Run(out, identity, _grids(teacher, schedule, encode(examples), out))
        texts = cache_texts(prompts, encode, out / "texts" / key, most_gib=options.text_cache_gib)
        student = distil(teacher.unet, texts, schedule, options, run, real)
    except torch.OutOfMemoryError as error:
        raise InvalidTraining(
            f"{where} has too little memory: lower --per-device-batch, or add --recompute, "
            "--ema-half-life 0, --precision fp16-weights or, on several GPUs, --parallel fsdp"
        ) from error
    except (OSError, SafetensorError) as error:
        raise InvalidTraining(
            f"{out} cannot be written ({error}); free some space and run the same command again"
        ) from error
    card = ModelCard(
        name=name,
        latent_shape=teacher.latent_shape,
        image_size=teacher.image_size,
        tokens=teacher.tokens,
        schedule={**teacher.schedule, "init_timestep": options.init_timestep},
        recipe={
            **_recipe(options, len(prompts), teacher_folder, last_step(out)),
            "real_images": 0 if real is None else len(real),
            "losses": logged_losses(out),
        },
        licences=read_licences(teacher_folder),
        examples=examples,
        steps=options.steps,
    )
    processes = current()
    if processes.writes and not _stands(out / "model", card):
        write_student(out / "model", teacher, student, card)
    processes.wait()
    return ModelFolder.open(out / "model")


def identity_of(teacher: Teacher, prompts: Sequence[str]) -> dict[str, Any]:
    """Tell what a run is made from, as its checkpoints keep it beside the options.

    Of the schedule what is not Stable Diffusion's usual: older runs can be gone on with.
    """
    told = {"teacher": weights_hash(teacher.unet), "prompts": _hash(prompts)}
    unusual = unusual_part(teacher.schedule)
    return {**told, "schedule": unusual} if unusual else told


def _real(
    teacher: Teacher, options: DistillOptions, out: Path, device: torch.device
) -> RealLatents | None:
    """Encode the real pictures of the adversarial term, where it is asked for."""
    if not options.real_images:
        return None
    if options.compile:
        raise InvalidTraining("--compile and --real-images do not go together; leave one out")
    latents = encode_real(
        Path(options.real_images), teacher.vae, teacher.image_size, out, device=device
    )
    return RealLatents(latents, seed=options.seed, device=device)


def _stands(path: Path, card: ModelCard) -> bool:
    """Whether the student that `card` tells of lies in `path` already, whole."""
    try:
        folder = ModelFolder.open(path)
        folder.check()
    except InvalidModel:
        return False
    told = [
        json.dumps([it.name, it.recipe, it.schedule], sort_keys=True) for it in (folder.card, card)
    ]
    return told[0] == told[1]


def _encoder(teacher: Teacher, options: DistillOptions, device: torch.device) -> Encode:
    """Return the function from prompts to embeddings, in the run's number format."""
    tokenizer = PromptTokenizer(teacher.tokenizer, length=teacher.tokens)
    dtype = PRECISIONS[options.precision].text
    return lambda prompts: encode_texts(teacher, tokenizer, prompts, device).to(dtype)


def _grids(
    teacher: Teacher, schedule: NoiseSchedule, texts: Tensor, out: Path
) -> Callable[[int, Network], None]:
    """Return what draws `texts` at seed 0 into `out/samples-000050.png` at a checkpoint."""
    z = torch.from_numpy(latent_noise([0] * len(texts), (schedule.steps, *teacher.latent_shape)))

    def save(step: int, student: Network) -> None:
        with torch.no_grad():
            x_g = several_steps(student, schedule, z.to(texts.device), texts)
        if current().writes:
            save_grid(out / f"samples-{step:06d}.png", [list(decode_latents(teacher.vae, x_g))])

    return save


@torch.no_grad()
def encode_texts(
    teacher: Teacher, tokenizer: PromptTokenizer, prompts: Sequence[str], device: torch.device | str
) -> Tensor:
    """Encode prompts with the frozen text encoder: [P, L, D]."""
    encoder = teacher.text_encoder.to(device)
    ids = torch.from_numpy(np.stack([tokenizer.encode(prompt).ids for prompt in prompts]))
    parts = [encoder(part.to(device)).last_hidden_state for part in ids.split(256)]
    return torch.cat(parts)


@torch.no_grad()
def decode_latents(vae: AutoencoderKL, latents: Tensor) -> NDArray[np.uint8]:
    """Decode clean latents [B, 4, h, w] one by one: uint8 [B, H, W, 3]."""
    vae = vae.to(latents.device)
    pictures = [vae.decode(part / vae.config.scaling_factor).sample for part in latents.split(1)]
    return to_pictures(torch.cat(pictures))


def _hash(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def _recipe(
    options: DistillOptions, prompts: int, teacher: Path, iterations: int
) -> dict[str, Any]:
    return {
        "method": "SiD-LSG",
        "prompts": prompts,
        "images_seen": iterations * options.batch,
        **asdict(options),
        "iterations": iterations,
        "teacher": read_training(teacher),
    }
