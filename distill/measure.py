"""Measure a model beside its teacher, and keep the figures in its card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distill.emoji_data import EmojiSet
from distill.emoji_sources import caption
from distill.folders import teacher_of
from distill.many_steps import ManyStepTeacher
from distill.recognition import recognised
from sidestep.files import one_at_a_time
from sidestep.generator import Generator
from sidestep.images import decode
from sidestep.model_folder import CARD, ModelFolder, write_card

SCALES = (1.5, 2.0, 3.0, 4.5)


def measure(
    folder: ModelFolder, sets: Sequence[EmojiSet], scales: Sequence[float] = SCALES, *, count: int
) -> ModelFolder:
    """Draw `count` captions at seed 0 by student and teacher; count how many are recognised.

    The teacher's guidance scale is the one of `scales` that serves it best. The captions are
    spread evenly over those that all sets share.
    """
    captions = _captions(sets, count)
    seeds, teacher = [0] * len(captions), ManyStepTeacher(teacher_of(folder))
    pictures = Generator.load(folder.path).draw(captions, seeds)
    student = np.stack([decode(picture.data) for picture in pictures])
    shares = {
        scale: _share(teacher.draw(captions, seeds, guidance_scale=scale), captions, sets)
        for scale in scales
    }
    best = max(shares, key=lambda scale: shares[scale])
    quality = {
        "captions": len(captions),
        "recognised": _share(student, captions, sets),
        "teacher_recognised": shares[best],
        "teacher_guidance": best,
    }
    with one_at_a_time(folder.path / CARD):
        card = ModelFolder.open(folder.path).card  # others may have written it meanwhile
        return write_card(folder.path, replace(card, quality={**card.quality, **quality}))


def known_guidance(path: Path) -> float | None:
    """Return the scale that serves a folder's teacher best, where its card tells it."""
    if not (path / CARD).is_file():
        return None
    told: float | None = ModelFolder.open(path).card.quality.get("teacher_guidance")
    return told


def _captions(sets: Sequence[EmojiSet], count: int) -> list[str]:
    shared = sorted(set.intersection(*({caption(name) for name in part.names} for part in sets)))
    stride = len(shared) // count
    if stride > 1:  # published figures rest on these
        return shared[::stride][:count]
    count = min(count, len(shared))
    return [shared[row * len(shared) // count] for row in range(count)]


def _share(drawn: NDArray[np.uint8], captions: list[str], sets: Sequence[EmojiSet]) -> float:
    return round(sum(recognised(drawn, captions, sets)) / len(captions), 3)
