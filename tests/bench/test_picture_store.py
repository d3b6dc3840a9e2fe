from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.quality.picture_store import PictureStore

PROMPTS, SEEDS = ["a", "b", "c", "d", "e"], [5, 6, 7, 8, 8]


class Painter:
    """Paints what depends on prompt and seed, in the memory order that PyTorch's pictures have."""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> NDArray[np.uint8]:
        self.drawn += len(prompts)
        keys = [[ord(prompt), seed] for prompt, seed in zip(prompts, seeds, strict=True)]
        rows = [np.random.default_rng(key).integers(0, 256, (3, 4, 4), np.uint8) for key in keys]
        return np.stack(rows).transpose(0, 2, 3, 1)


def test_pictures_come_back_as_they_were_drawn(tmp_path: Path) -> None:
    paint = Painter()
    store = PictureStore(tmp_path, batch=2)
    first = store.pictures("painter", PROMPTS, SEEDS, paint)
    assert (first == Painter()(PROMPTS, SEEDS)).all()
    again = store.pictures("painter", PROMPTS, SEEDS, paint)
    assert (again == first).all()
    assert paint.drawn == 5


def test_a_stop_loses_no_more_than_a_batch(tmp_path: Path) -> None:
    paint = Painter()
    store = PictureStore(tmp_path, batch=2)
    store.pictures("painter", PROMPTS[:4], SEEDS[:4], paint)
    store.pictures("painter", PROMPTS, SEEDS, paint)
    assert paint.drawn == 5
    for file in tmp_path.rglob("*.safetensors"):
        file.write_bytes(b"damaged")
    assert (store.pictures("painter", PROMPTS, SEEDS, paint) == Painter()(PROMPTS, SEEDS)).all()
    assert paint.drawn == 10


def test_who_draws_and_what_is_asked_for_tell_pictures_apart(tmp_path: Path) -> None:
    paint = Painter()
    store = PictureStore(tmp_path, batch=2)
    for identity, prompts, seeds in (
        ("painter", ["a"], [1]),
        ("another", ["a"], [1]),
        ("painter", ["b"], [1]),
        ("painter", ["a"], [2]),
    ):
        store.pictures(identity, prompts, seeds, paint)
    assert paint.drawn == 4
