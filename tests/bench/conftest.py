"""A world of twelve small pictures, and a judge that learns it in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.quality.judge_data import Labelled
from bench.quality.judge_training import JudgeOptions, train_judge

SIZE_PX = 32
# In words that the tiny models' tokenizer knows.
COLOURS = {"red": (220, 30, 30), "fire": (230, 170, 40), "blue": (40, 60, 220)}
SHAPES = ("apple", "heart")


def draw(colour: str, shape: str, style: str) -> NDArray[np.uint8]:
    """Draw a square (`apple`) or a cross (`heart`), in the style `noto` with a dark rim."""
    picture = np.full((SIZE_PX, SIZE_PX, 3), 255, np.uint8)
    thick = slice(11, 21)
    parts = [(slice(4, 28), thick), (thick, slice(4, 28))]
    for rows, columns in parts if shape == "heart" else [(slice(6, 26), slice(6, 26))]:
        if style == "noto":
            grown = slice(rows.start - 2, rows.stop + 2), slice(columns.start - 2, columns.stop + 2)
            picture[grown] = 20
        picture[rows, columns] = COLOURS[colour]
    return picture


@pytest.fixture(scope="session")
def judge_options() -> JudgeOptions:
    return JudgeOptions(
        features=16,
        width=8,
        layers=(1, 1, 1, 1),
        text_width=32,
        text_layers=1,
        size_px=SIZE_PX,
        steps=80,
        batch=12,
        warmup_steps=5,
    )


@pytest.fixture(scope="session")
def world() -> Labelled:
    cases = [(c, s, style) for style in ("flat", "noto") for c in COLOURS for s in SHAPES]
    test = np.zeros(len(cases), bool)
    test[7] = True  # the red heart in noto, whose flat twin is learned
    return Labelled(
        np.stack([draw(*case) for case in cases]),
        [f"{colour} {shape}" for colour, shape, _ in cases],
        [style for *_, style in cases],
        test,
    )


@pytest.fixture(scope="session")
def tiny_judge(
    world: Labelled, judge_options: JudgeOptions, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a judge that knows the world."""
    run = tmp_path_factory.mktemp("judge")
    train_judge(world, run, run / "judge", judge_options)
    return run / "judge"
