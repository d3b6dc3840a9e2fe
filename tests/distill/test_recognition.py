"""The beholder knows a picture by shape and colour."""

from __future__ import annotations

import numpy as np

from distill.emoji_data import EmojiSet
from distill.recognition import recognised


def test_a_picture_is_known_by_its_nearest() -> None:
    source = np.random.default_rng(0)
    pictures = source.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    sets = [
        EmojiSet("noto", ["red-apple", "pizza"], pictures[:2]),
        EmojiSet("flat", ["cat-face"], pictures[2:]),
    ]
    captions = ["red apple", "pizza", "cat face"]
    noisy = np.clip(pictures + source.normal(0, 20, pictures.shape), 0, 255).astype(np.uint8)
    assert recognised(noisy, captions, sets) == [True, True, True]
    assert recognised(noisy[::-1], captions, sets) == [False, True, False]


def test_the_same_subject_in_another_style_counts() -> None:
    apple, pizza = np.zeros((1, 16, 16, 3), np.uint8), np.full((1, 16, 16, 3), 255, np.uint8)
    sets = [EmojiSet("noto", ["red-apple"], pizza), EmojiSet("flat", ["red-apple"], apple)]
    assert recognised(apple, ["red apple"], sets) == [True]
