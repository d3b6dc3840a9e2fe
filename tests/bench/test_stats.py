"""Percentiles and intervals against values that are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.stats import (
    Values,
    blocks,
    figure,
    is_above,
    least_sample,
    paired_ratio_estimate,
    percentile,
    percentile_estimate,
    ranks,
    ratio_of_rounds_estimate,
    rounds_estimate,
    summary,
    told_percentile,
)


def at(percent: float) -> Callable[[Values], float]:
    return partial(percentile, percent=percent)


@pytest.mark.parametrize(
    ("percent", "expected"), [(50, 50), (95, 95), (99, 99), (100, 100), (1, 1), (0, 1)]
)
def test_nearest_rank_of_one_to_a_hundred(percent: float, expected: float) -> None:
    values = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))
    assert percentile(values, percent) == expected


def test_a_percentile_of_few_or_failed() -> None:
    assert math.isnan(percentile([], 50))
    assert percentile([3.0], 99) == 3.0
    assert percentile([1.0] * 98 + [math.inf] * 2, 98) == 1.0
    assert math.isinf(percentile([1.0] * 98 + [math.inf] * 2, 99))


def test_the_least_samples_are_those_of_the_binomial_interval() -> None:
    assert [least_sample(percent) for percent in (50, 95, 99)] == [6, 72, 368]
    for percent in (50, 95, 99):
        n = least_sample(percent)
        assert (percent / 100) ** n <= 0.025 < (percent / 100) ** (n - 1)


@pytest.mark.parametrize(("n", "told"), [(5, []), (6, [50]), (72, [50, 95]), (368, [50, 95, 99])])
def test_too_few_samples_are_told_and_not_printed(n: int, told: list[int]) -> None:
    summed = summary(blocks(np.arange(float(n))))
    assert [p for p in (50, 95, 99) if summed[f"p{p}"] is not None] == told
    assert len(summed["too_few_for"]) == 3 - len(told)
    if 99 not in told:
        assert "p99 needs 368 samples" in summed["too_few_for"]


def test_the_ranks_are_those_of_the_binomial_distribution() -> None:
    assert ranks(100, 50) == (40, 61)  # as in tables of the sign test
    assert ranks(6, 50) == (1, 6)
    assert ranks(5, 50) == (0, 6)  # below the least and above the largest of five
    for percent in (50, 95, 99):
        n = least_sample(percent)
        assert ranks(n, percent)[1] == n
        assert ranks(n - 1, percent)[1] == n  # of n - 1
    low, high = ranks(100_000, 99)
    assert (99_000 - low, high - 99_000) == pytest.approx((62, 62), abs=2)  # 1.96 standard errors


def test_a_percentile_is_above_a_bound_by_more_than_chance() -> None:
    assert not is_above([], 99, 5.0)
    assert not is_above([9.0] + [1.0] * 29, 99, 5.0)  # which one in four samples would have
    assert is_above([9.0] * 3 + [1.0] * 27, 99, 5.0)
    assert not is_above([5.0] * 30, 99, 5.0)


def test_figures_are_of_six_digits_and_finite() -> None:
    assert figure(1.23456789) == 1.23457
    assert [figure(value) for value in (None, math.nan, math.inf)] == [None] * 3
    assert told_percentile([1.0] * 367, 99) is None
    assert told_percentile([1.0] * 368, 99) == 1.0


@pytest.mark.parametrize(("percent", "n"), [(50, 100), (95, 100), (99, 400)])
def test_an_interval_covers_the_truth_as_often_as_it_says(percent: float, n: int) -> None:
    """At least 95%, but for the chance of 100 trials; the bootstrap alone reaches 87 to 91."""
    rng, truth = np.random.default_rng(1), -math.log(1 - percent / 100)
    told = [percentile_estimate(blocks(rng.exponential(1.0, n)), percent) for _ in range(100)]
    hits = sum(one.low <= truth <= one.high for one in told if one)
    assert hits >= 94


def test_the_interval_of_a_percentile_knows_that_neighbours_resemble_each_other() -> None:
    """Ten neighbours are as one value, of a hundred; the bootstrap alone covers 51 of these 60."""
    rng, truth = np.random.default_rng(2), math.exp(1.6449)
    hits = 0
    for _ in range(60):
        told = percentile_estimate(blocks(np.repeat(rng.lognormal(0, 1, 100), 10)), 95)
        assert told is not None
        hits += told.low <= truth <= told.high
    assert hits >= 56


@pytest.mark.parametrize("percent", [50, 95])
def test_an_interval_knows_that_calls_of_a_round_resemble_each_other(percent: float) -> None:
    """Ten rounds, each shifted by as much as its calls scatter: the truth is of many rounds."""
    rng = np.random.default_rng(11)

    def rounds(count: int) -> list[NDArray[np.float64]]:
        return [rng.normal(10 + rng.normal(0, 1), 1, 40) for _ in range(count)]

    truth = percentile(np.concatenate(rounds(4000)), percent)
    hits, times_as_wide = 0, []
    for number in range(30):
        measured = rounds(10)
        told = rounds_estimate(measured, at(percent))
        assert told is not None
        hits += told.low <= truth <= told.high
        if number < 3:
            alone = rounds_estimate([[call] for call in np.concatenate(measured)], at(percent))
            assert alone is not None
            times_as_wide.append((told.high - told.low) / (alone.high - alone.low))
    assert hits >= 24
    assert min(times_as_wide) > 1.5


def test_no_interval_below_six_rounds() -> None:
    times = np.arange(400.0).reshape(5, 80)
    summed = summary(list(times))
    assert [summed[name] for name in ("p50", "p95", "p99")] == [None] * 3
    assert summed["too_few_for"][0] == "p50 needs samples of 6 rounds"
    assert rounds_estimate(list(times), np.mean) is None
    assert percentile_estimate(list(times), 50) is None
    assert summary([])["n"] == 0


def test_a_mean_and_its_interval() -> None:
    values = np.random.default_rng(3).normal(10.0, 2.0, 400)
    estimate = rounds_estimate([[value] for value in values], np.mean)
    assert estimate is not None
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * 2.0 / 20, rel=0.15)


def test_blocks_are_neighbours_and_lose_nothing() -> None:
    cut = blocks(range(50))
    assert len(cut) == 20
    np.testing.assert_array_equal(np.concatenate(cut), np.arange(50))
    assert [len(block) for block in blocks([3.0, 1.0])] == [1, 1]
    assert blocks([]) == []


def test_a_pair_of_rounds_forgives_a_machine_that_slows_both() -> None:
    rng = np.random.default_rng(5)
    machine = np.linspace(1, 3, 10)  # slower in each round
    fast = [slowness * rng.normal(10, 0.1, 8) for slowness in machine]
    slow = [2 * slowness * rng.normal(10, 0.1, 8) for slowness in machine]
    paired = paired_ratio_estimate(slow, fast)
    apart = ratio_of_rounds_estimate(slow, fast)
    assert paired is not None
    assert apart is not None
    assert paired.value == pytest.approx(2, rel=0.02)
    assert paired.high - paired.low < 0.1 * (apart.high - apart.low)
    assert paired_ratio_estimate(slow[:5], fast[:5]) is None


def test_rounds_of_different_runs_are_resampled_whole() -> None:
    """Calls of one round resemble each other; as if independent, noise would be a difference."""
    rng = np.random.default_rng(0)
    surprised = 0
    for _ in range(20):
        runs = [
            [rng.normal(10 + rng.normal(0, 1), 0.05, 40).tolist() for _ in range(10)]
            for _ in range(2)
        ]
        whole = ratio_of_rounds_estimate(*runs)
        assert whole is not None
        surprised += not whole.low <= 1 <= whole.high
    assert surprised <= 4
    twice = ratio_of_rounds_estimate([[2.0], [2.1]] * 5, [[1.0], [1.05]] * 5)
    assert twice is not None
    assert twice.value == pytest.approx(2)
    assert ratio_of_rounds_estimate(runs[0][:5], runs[1]) is None
