"""Which captions student and teacher are measured on."""

from __future__ import annotations

import numpy as np
import pytest

from distill.emoji_data import EmojiSet
from distill.measure import _captions


@pytest.mark.parametrize(
    ("count", "rows"),
    [
        (3, [0, 3, 6]),  # a whole stride, as ever
        (6, [0, 1, 3, 4, 6, 7]),  # more than half of them: not the first six
        (9, list(range(9))),
        (99, list(range(9))),
    ],
)
def test_captions_are_spread_over_all_that_are_shared(count: int, rows: list[int]) -> None:
    names = [f"thing-{letter}" for letter in "abcdefghi"]
    sets = [EmojiSet(style, names, np.zeros((9, 1, 1, 3), np.uint8)) for style in ("noto", "flat")]
    assert _captions(sets, count) == [f"thing {'abcdefghi'[row]}" for row in rows]
