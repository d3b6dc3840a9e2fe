"""A model's example prompts, one picture each: what the judge calls them, and a grid for people.

A person who names the pictures must not have seen the prompts: the grid has numbers alone, in an
order of its own, and `quality.json` tells which is which.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.quality.judge import Features, Judge, Reference
from bench.quality.scores import TOP
from bench.quality.similarity import rank_of_own
from distill.progress import save_grid

COLUMNS = 5


@dataclass(frozen=True)
class Example:
    """One prompt of the model's card, as the judge names its picture.

    number: the picture's in the grid, from 1
    rank: of its name among all names that the judge knows, 0 where it fits best
    named: whether it is among the first three
    """

    number: int
    prompt: str
    rank: int
    named: bool


def shuffled(prompts: Sequence[str]) -> list[str]:
    """Order prompts by hash, so that their neighbours in a card give nothing away."""
    return sorted(prompts, key=lambda prompt: hashlib.sha256(prompt.encode()).hexdigest())


def name_examples(
    judge: Judge, reference: Reference, features: Features, prompts: Sequence[str]
) -> list[Example]:
    """Rank each prompt's name for its picture, features [N, D]."""
    if not prompts:
        return []
    names = sorted({*reference.names, *prompts})
    own = np.array([names.index(prompt) for prompt in prompts], np.int64)
    ranks = rank_of_own(features, judge.read(names), own).tolist()
    return [
        Example(number, prompt, rank, rank < TOP)
        for number, (prompt, rank) in enumerate(zip(prompts, ranks, strict=True), 1)
    ]


def save_examples(path: Path, pictures: NDArray[np.uint8]) -> None:
    """Write pictures [N, H, W, 3] as a grid whose rows tell their numbers, counted from 1."""
    starts = range(0, len(pictures), COLUMNS)
    rows = [list(pictures[start : start + COLUMNS]) for start in starts]
    labels = [f"{start + 1}-{start + len(row)}" for start, row in zip(starts, rows, strict=True)]
    save_grid(path, rows, labels=labels)
