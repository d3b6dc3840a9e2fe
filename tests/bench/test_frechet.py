from __future__ import annotations

import numpy as np
import pytest

from bench.quality.frechet import Statistics, frechet_distance
from sidestep.errors import InvalidData


def gaussian(mean: list[float], covariance: list[list[float]]) -> Statistics:
    return Statistics(np.array(mean), np.array(covariance), 10)


def test_two_gaussians_on_a_line() -> None:
    one, other = gaussian([1.0], [[4.0]]), gaussian([4.0], [[25.0]])
    assert frechet_distance(one, other) == pytest.approx(3**2 + (5 - 2) ** 2)


def test_gaussians_whose_covariances_commute() -> None:
    """In closed form: |m1 - m2|^2 + sum (s1 - s2)^2 in their common axes, here turned by 30°."""
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    turn = np.array([[cos, -sin], [sin, cos]])
    one = Statistics(np.zeros(2), turn @ np.diag([1.0, 9.0]) @ turn.T, 10)
    other = Statistics(np.array([3.0, 4.0]), turn @ np.diag([16.0, 4.0]) @ turn.T, 10)
    expected = 25 + (4 - 1) ** 2 + (3 - 2) ** 2
    assert frechet_distance(one, other) == pytest.approx(expected)
    assert frechet_distance(other, one) == pytest.approx(expected)


def test_gaussians_whose_covariances_do_not_commute() -> None:
    """tr (C1 C2)^1/2 of 2x2 matrices is (tr C1 C2 + 2 (det C1 C2)^1/2)^1/2."""
    a, b = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[5.0, -2.0], [-2.0, 1.0]])
    cross = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a) * np.linalg.det(b)))
    expected = np.trace(a) + np.trace(b) - 2 * cross
    one, other = Statistics(np.zeros(2), a, 10), Statistics(np.zeros(2), b, 10)
    assert frechet_distance(one, other) == pytest.approx(expected)


def test_a_set_has_no_distance_to_itself_even_if_smaller_than_its_features() -> None:
    features = np.random.default_rng(0).normal(size=(8, 32)).astype(np.float32)
    assert frechet_distance(Statistics.of(features), Statistics.of(features)) < 1e-6


def test_statistics_are_those_of_the_features() -> None:
    features = np.array([[0.0, 0.0], [2.0, 4.0]], np.float32)
    found = Statistics.of(features)
    assert found.mean.tolist() == [1.0, 2.0]
    assert found.covariance.tolist() == [[2.0, 4.0], [4.0, 8.0]]
    assert found.count == 2


def test_one_picture_is_too_few() -> None:
    with pytest.raises(InvalidData, match="at least 2"):
        Statistics.of(np.zeros((1, 4)))
