from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.quality.precision_recall import precision_recall
from sidestep.errors import InvalidData


def line(*places: float) -> NDArray[np.float32]:
    return np.array([[place, 0.0] for place in places], np.float32)


def test_a_constructed_case() -> None:
    """With k = 1 on a line: the real balls reach 1 around 0 and 1, and 9 around 10."""
    real = line(0, 1, 10)
    generated = line(1.9, 19, 19.5, 30)
    # Real: 1.9 and 19 lie inside, 19.5 and 30 outside. Generated: the balls around 1.9 (17.1),
    # 19 and 19.5 (0.5), 30 (10.5) hold all of 0, 1 and 10.
    assert precision_recall(real, generated, k=1) == (0.5, 1.0)


def test_copies_are_precise_and_complete() -> None:
    real = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    assert precision_recall(real, real) == (1.0, 1.0)


def test_one_corner_of_the_real_ones_is_precise_and_recalls_little() -> None:
    draw = np.random.default_rng(0)
    real = draw.uniform(size=(1500, 2)).astype(np.float32)  # more than one block of distances
    corner = draw.uniform(0.0, 0.3, size=(1500, 2)).astype(np.float32)
    precision, recall = precision_recall(real, corner)
    assert precision > 0.9
    assert 0.05 < recall < 0.15  # the corner is 9% of the square


def test_far_away_is_neither() -> None:
    real = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    assert precision_recall(real, real + 100) == (0.0, 0.0)


def test_too_few_pictures_are_told() -> None:
    with pytest.raises(InvalidData, match="at least 4"):
        precision_recall(line(0, 1, 2), line(0, 1, 2, 3))
