"""Who draws the pictures that are judged: the student, its teacher, the student at its start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bench.quality.picture_store import Draw
from distill.folders import load_teacher, teacher_hash, teacher_of
from distill.many_steps import ManyStepTeacher
from sidestep.engines.pytorch import TorchEngine
from sidestep.engines.torch_module import GeneratorModule
from sidestep.generator import Generator
from sidestep.model_folder import ModelFolder


@dataclass(frozen=True)
class Source:
    """Draws a picture for each prompt and seed.

    identity: all that its pictures depend on besides those, see `PictureStore`
    """

    identity: str
    draw: Draw


def student_of(generator: Generator) -> Source:
    """Take a one-step generator, in batches of its engine's size."""
    spec = generator.engine.spec
    return Source(f"student:{spec.weights}:{spec.name}", partial(_draw_at_once, generator))


def start_of(folder: ModelFolder, generator: Generator) -> Source:
    """Make the generator that the distillation began with: the teacher's UNet, in its steps."""
    path = teacher_of(folder)
    teacher = load_teacher(path)
    networks = (teacher.text_encoder, teacher.unet, teacher.vae)
    module = GeneratorModule(*networks, folder.schedule).eval()
    engine = TorchEngine(module, "cpu", "start", folder)
    began = Generator(folder.card.name, generator.tokenizer, engine)
    told = f"start:{teacher_hash(path)}:{sorted(folder.card.schedule.items())}"
    return Source(f"{told}:{folder.card.steps}", partial(_draw_at_once, began))


def teacher_at(teacher: ManyStepTeacher, scale: float) -> Source:
    """Take a teacher of many steps at a guidance scale."""
    identity = f"teacher at {scale:g}:{teacher.identity}"
    return Source(identity, partial(teacher.draw, guidance_scale=scale))


def _draw_at_once(
    generator: Generator, prompts: Sequence[str], seeds: Sequence[int]
) -> NDArray[np.uint8]:
    size = generator.engine.spec.max_batch
    ids, noise = generator.tokenizer(prompts), generator.noise(seeds)
    rows = [slice(start, start + size) for start in range(0, len(prompts), size)]
    return np.concatenate([generator.engine(ids[part], noise[part]) for part in rows])
