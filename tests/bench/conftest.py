"""A judge that learns twelve small pictures in seconds, and a loop whose time is not a clock's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

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


class VirtualLoop(asyncio.SelectorEventLoop):
    """Skips to the next timer instead of waiting for it: timing without a clock."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        selector: Any = self._selector  # type: ignore[attr-defined]
        select = selector.select

        def skip(timeout: float | None = None) -> Any:
            self._now += timeout or 0.0
            return select(0)

        selector.select = skip

    def time(self) -> float:
        return self._now


@pytest.fixture
def virtually() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine in virtual time; returns its result."""

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(coroutine)

    return run
