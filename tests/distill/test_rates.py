"""Learning rates rise and fall where they should."""

from __future__ import annotations

import pytest

from distill.rates import cosine


def test_the_rate_warms_up_and_ends_at_zero() -> None:
    rates = [cosine(step, peak=1.0, warmup=10, last=100) for step in range(1, 101)]
    assert rates[4] == 0.5
    assert max(rates) == rates[9] == 1.0
    assert rates[-1] == pytest.approx(0)
    assert rates[9:] == sorted(rates[9:], reverse=True)
