"""Choose a teacher's guidance scale by how close its pictures come to the real ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from distill.emoji_data import EmojiSet
from distill.emoji_sources import caption
from distill.model_card import draw_teacher

SCALES = (1.5, 2.0, 3.0, 4.5)


def distance_to_real(
    model: Path, sets: Sequence[EmojiSet], names: list[str], scale: float
) -> float:
    """Root-mean-square distance, in levels of 255, of a picture to the nearest of its four styles.

    A coarse yardstick of subject and shape, averaged over `names`; it is blind to style.
    """
    drawn = draw_teacher(model, [caption(name) for name in names], guidance_scale=scale)
    distances = []
    for name, picture in zip(names, drawn, strict=True):
        real = [s.pictures[s.names.index(name)] for s in sets if name in s.names]
        squared = [np.square(picture.astype(float) - other).mean() for other in real]
        distances.append(min(squared) ** 0.5)
    return float(np.mean(distances))


def best_scale(model: Path, sets: Sequence[EmojiSet], names: list[str]) -> dict[float, float]:
    """Measure every scale of `SCALES`: {scale: distance}, the nearest first."""
    measured = {scale: distance_to_real(model, sets, names, scale) for scale in SCALES}
    return dict(sorted(measured.items(), key=lambda item: item[1]))
