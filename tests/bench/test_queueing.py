from __future__ import annotations

import statistics

import pytest

from bench.arrivals import poisson
from bench.queueing import floor_ms


def test_nobody_waits_who_comes_alone() -> None:
    assert floor_ms([0.0, 1.0, 2.0], lambda n: 0.5) == pytest.approx([500.0] * 3)


def test_one_at_a_time_is_the_queue_of_the_textbook() -> None:
    load, call_s = 0.8, 0.03
    times = floor_ms(poisson(load / call_s, 200_000).tolist(), lambda n: call_s)
    waits_s = [time_ms / 1e3 - call_s for time_ms in times]
    expected_s = load * call_s / (2 * (1 - load))  # M/D/1, Pollaczek and Khinchine
    assert statistics.mean(waits_s) == pytest.approx(expected_s, rel=0.05)


def test_two_workers_wait_less_than_one_of_twice_the_load() -> None:
    due = poisson(0.8 * 2 / 0.03, 20_000).tolist()
    two = floor_ms(due, lambda n: 0.03, workers=2)
    one = floor_ms(due, lambda n: 0.015)
    assert statistics.mean(two) - 30 < statistics.mean(one) - 15


def test_what_waits_becomes_a_batch() -> None:
    due = [0.0, 0.01, 0.02, 0.03]
    times = floor_ms(due, lambda n: 0.1 * n, max_batch=2)
    assert times == pytest.approx([100, 290, 280, 370])


def test_a_request_ends_with_its_last_picture() -> None:
    assert floor_ms([0.0], lambda n: 0.1, count=3, max_batch=2) == pytest.approx([200])
