"""Learning rates fall where they should."""

from __future__ import annotations

import pytest

from distill.rates import cooled, cosine


def test_a_cooldown_falls_in_a_line_over_its_share() -> None:
    rates = [cooled(step, peak=8.0, share=0.4, last=10) for step in range(1, 11)]
    assert rates == [8, 8, 8, 8, 8, 8, 8, 6, 4, 2]


@pytest.mark.parametrize(("share", "rates"), [(0, [3, 3, 3]), (1, [3, 2, 1])])
def test_a_cooldown_of_none_and_of_all(share: float, rates: list[float]) -> None:
    assert [cooled(step, peak=3.0, share=share, last=3) for step in (1, 2, 3)] == rates


def test_half_a_cosine_after_a_warm_up() -> None:
    rates = [cosine(step, peak=1.0, warmup=2, last=4) for step in range(1, 5)]
    assert rates == pytest.approx([0.5, 1, 0.5, 0])
