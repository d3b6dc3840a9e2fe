from __future__ import annotations

import pytest

from serve.moving_mean import HOLDS_S, STALL, MovingMean


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def measured(*seconds: float) -> tuple[MovingMean, Clock]:
    clock = Clock()
    mean = MovingMean(0.2, clock)
    for one in seconds:
        mean.add(one)
    return mean, clock


def test_it_follows_what_is_measured() -> None:
    assert MovingMean(0.2).seconds == 0.0
    assert measured(0.04)[0].seconds == 0.04
    assert measured(0.04, 0.06)[0].seconds == pytest.approx(0.044)
    assert measured(0.04, *[0.08] * 50)[0].seconds == pytest.approx(0.08, rel=1e-3)
    assert measured(0.04, *[4.0] * 50)[0].seconds == pytest.approx(4.0, rel=1e-2)


def test_a_single_stall_moves_it_little() -> None:
    mean, _ = measured(0.04, 60.0)
    assert mean.seconds == pytest.approx(0.04 * (1 + 0.2 * (STALL - 1)))


def test_without_measurements_it_falls_to_the_least_of_all() -> None:
    mean, clock = measured(0.04, *[20.0] * 50)
    high = mean.seconds
    clock.now += HOLDS_S
    assert mean.seconds == pytest.approx(high)
    clock.now += HOLDS_S
    assert mean.seconds == pytest.approx(high / 2, rel=0.01)
    clock.now += 30 * HOLDS_S
    assert mean.seconds == pytest.approx(0.04)
    mean.add(0.05)
    assert mean.seconds == pytest.approx(0.042)
