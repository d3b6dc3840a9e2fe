from __future__ import annotations

import numpy as np
import pytest

from bench.quality.similarity import clip_score, mean_pairwise_distance, nearest, rank_of_own

EAST, NORTH, WEST = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]


def test_the_clip_score_is_the_mean_cosine() -> None:
    pictures, texts = np.array([EAST, NORTH, WEST]), np.array([EAST, EAST, EAST])
    assert clip_score(pictures, texts) == pytest.approx(0.0)
    assert clip_score(pictures, pictures) == pytest.approx(1.0)


def test_ranks_count_the_better_names() -> None:
    pictures = np.array([[0.8, 0.6], [-0.6, 0.8]])
    names = np.array([EAST, NORTH, WEST])
    assert rank_of_own(pictures, names, np.array([0, 0])).tolist() == [0, 2]
    assert rank_of_own(pictures, names, np.array([1, 2])).tolist() == [1, 1]


def test_pairwise_distances_of_three_points() -> None:
    expected = (np.sqrt(2) + 2 + np.sqrt(2)) / 3
    assert mean_pairwise_distance(np.array([EAST, NORTH, WEST])) == pytest.approx(expected)
    assert mean_pairwise_distance(np.array([EAST, EAST])) == 0.0


def test_the_nearest_and_how_far_it_is() -> None:
    rows, apart = nearest(np.array([[0.6, 0.8], EAST]), np.array([EAST, NORTH, WEST]))
    assert rows.tolist() == [1, 0]
    assert apart == pytest.approx([np.sqrt(2 - 1.6), 0.0], abs=1e-7)
