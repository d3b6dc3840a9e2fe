"""What is measured of one source of pictures: real ones, a teacher, a student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.quality.frechet import Statistics, frechet_distance
from bench.quality.judge import Features, Judge, Reference
from bench.quality.precision_recall import precision_recall
from bench.quality.similarity import clip_score, rank_of_own

TOP = 3  # a name counts as right among the first three of all


@dataclass(frozen=True)
class Distances:
    """How far `pictures` pictures are from the real ones.

    frechet: squared, of unit features, as FID is of Inception's; precision, recall: 0..1
    """

    pictures: int
    frechet: float
    precision: float
    recall: float


@dataclass(frozen=True)
class Fit:
    """How well pictures fit their prompts.

    clip: mean cosine, -1..1; named: share whose name is among the first three of all names;
    styled: share whose style, of those asked for, comes first; None where no prompt has one
    """

    prompts: int
    clip: float
    named: float
    styled: float | None


def distances(features: Features, real: Features) -> Distances:
    """Compare features [N, D] with the reference's [M, D]."""
    precision, recall = precision_recall(real, features)
    frechet = frechet_distance(Statistics.of(features), Statistics.of(real))
    return Distances(len(features), frechet, precision, recall)


def fit(judge: Judge, reference: Reference, features: Features, prompts: Sequence[str]) -> Fit:
    """Compare features [N, D] with N prompts such as `red apple` or `red apple, noto`.

    The right name has to stand out among all real names and those of the prompts.
    """
    styles = sorted(set(reference.styles))
    parted = [part(prompt, styles) for prompt in prompts]
    names = sorted({*reference.names, *(name for name, _ in parted)})
    where = {name: index for index, name in enumerate(names)}
    own = np.array([where[name] for name, _ in parted])
    ranks = rank_of_own(features, judge.read(names), own)
    right = [
        styles[int((judge.read([f"{name}, {s}" for s in styles]) @ row).argmax())] == style
        for row, (name, style) in zip(features, parted, strict=True)
        if style
    ]
    return Fit(
        prompts=len(prompts),
        clip=clip_score(features, judge.read(prompts)),
        named=float((ranks < TOP).mean()),
        styled=float(np.mean(right)) if right else None,
    )


def part(prompt: str, styles: Sequence[str]) -> tuple[str, str | None]:
    """Split `red apple, noto` into name and style; other commas belong to the name."""
    name, comma, style = prompt.rpartition(", ")
    return (name, style) if comma and style in styles else (prompt, None)
