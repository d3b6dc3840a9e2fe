from __future__ import annotations

import asyncio
import time

import pytest

from serve.delay import LOOK_EVERY_S, ROUNDS, LoopDelay


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_look_in_time_shows_no_delay() -> None:
    clock = Clock()
    delay = LoopDelay(clock)
    assert delay.seconds == 0.0
    delay.expect()
    clock.now += LOOK_EVERY_S
    delay.look()
    assert delay.seconds == pytest.approx(0.0, abs=1e-9)


def test_a_round_that_is_not_over_counts_already() -> None:
    clock = Clock()
    delay = LoopDelay(clock)
    delay.expect()
    clock.now += LOOK_EVERY_S + 0.3
    assert delay.seconds == pytest.approx(0.3)
    assert delay.of_an_answer == pytest.approx(0.3 * ROUNDS)


def test_a_peak_is_kept_for_a_few_looks() -> None:
    clock = Clock()
    delay = LoopDelay(clock)
    delay.expect()
    clock.now += LOOK_EVERY_S + 0.8
    delay.look()
    seen = []
    for _ in range(10):
        delay.expect()
        clock.now += LOOK_EVERY_S
        delay.look()
        seen.append(delay.seconds)
    assert seen[0] == pytest.approx(0.4)
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] < 0.001


async def test_it_looks_at_the_running_loop() -> None:
    delay = LoopDelay()
    delay.start()
    await asyncio.sleep(0)
    time.sleep(0.2)  # nothing else runs meanwhile
    assert delay.seconds >= 0.2 - LOOK_EVERY_S - 0.01
    await delay.stop()
