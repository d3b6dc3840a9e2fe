"""The Poisson process by its distribution."""

from __future__ import annotations

import numpy as np
import pytest

from bench.arrivals import poisson


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gaps_are_exponential(seed: int) -> None:
    """Kolmogorov and Smirnov: the distance to the distribution is below the 1% bound."""
    rate, n = 40.0, 5000
    gaps = np.sort(np.diff(poisson(rate, n + 1, seed=seed)))
    cdf = 1 - np.exp(-rate * gaps)
    steps = np.arange(n + 1) / n
    distance = max(np.abs(cdf - steps[1:]).max(), np.abs(cdf - steps[:-1]).max())
    assert distance < 1.63 / np.sqrt(n)


def test_counts_vary_as_much_as_their_mean() -> None:
    arrivals = poisson(50.0, 50_000)
    counts = np.histogram(arrivals, bins=np.arange(0, int(arrivals[-1])))[0]
    assert counts.mean() == pytest.approx(50, rel=0.03)
    assert counts.var() == pytest.approx(50, rel=0.15)


def test_gaps_know_nothing_of_each_other() -> None:
    gaps = np.diff(poisson(10.0, 20_000))
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.03


def test_a_seed_draws_the_same_arrivals_again() -> None:
    assert (poisson(5.0, 100, seed=3) == poisson(5.0, 100, seed=3)).all()
    assert (poisson(5.0, 100, seed=3) != poisson(5.0, 100, seed=4)).any()
