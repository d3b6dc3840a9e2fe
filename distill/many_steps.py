"""A teacher that draws as its pipeline does: many DDIM steps with classifier-free guidance."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from distill.autoencoder import to_pictures
from distill.folders import load_teacher, teacher_hash, teacher_scheduler
from distill.sampling import sample_ddim
from distill.student import encode_texts
from sidestep.noise import latent_noise
from sidestep.tokenizer import PromptTokenizer

TEACHER_STEPS = 50


class ManyStepTeacher:
    """The teacher of a folder: its own, or the one that a sidestep model carries."""

    def __init__(self, path: Path, *, steps: int = TEACHER_STEPS) -> None:
        """Read the networks onto a GPU where there is one; raises InvalidModel if some are missing.

        What is drawn comes back to the CPU.
        """
        self.steps = steps
        self._path = path
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._teacher = load_teacher(path)
        for network in (self._teacher.unet, self._teacher.vae):
            network.to(self._device)
        self._tokenizer = PromptTokenizer(self._teacher.tokenizer, length=self._teacher.tokens)

    @torch.no_grad()
    def draw(
        self, prompts: Sequence[str], seeds: Sequence[int], *, guidance_scale: float
    ) -> NDArray[np.uint8]:
        """Draw one picture for each pair of prompt and seed, all in one batch: [B, H, W, 3]."""
        teacher = self._teacher
        texts = [encode_texts(teacher, self._tokenizer, t, self._device) for t in (prompts, [""])]
        x0 = sample_ddim(
            teacher.unet,
            teacher_scheduler(teacher.schedule),
            torch.from_numpy(latent_noise(seeds, teacher.latent_shape)).to(self._device),
            (texts[0], texts[1]),
            steps=self.steps,
            guidance_scale=guidance_scale,
        )
        return to_pictures(teacher.vae.decode(x0 / teacher.vae.config.scaling_factor).sample)

    @cached_property
    def identity(self) -> str:
        """Hash everything but prompts, seeds and guidance that its pictures depend on."""
        made_of = (teacher_hash(self._path), self.steps, sorted(self._teacher.schedule.items()))
        return hashlib.sha256(repr(made_of).encode()).hexdigest()
