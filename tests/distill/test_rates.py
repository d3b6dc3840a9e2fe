"""Learning rates rise and fall where they should."""

from __future__ import annotations

import pytest

from distill.rates import cosine


def test_half_a_cosine_after_a_warm_up() -> None:
    rates = [cosine(step, peak=1.0, warmup=2, last=4) for step in range(1, 5)]
    assert rates == pytest.approx([0.5, 1, 0.5, 0])
