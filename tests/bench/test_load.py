"""Open and closed loops in virtual time: nothing here depends on this machine's speed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bench.arrivals import poisson
from bench.load import DEAD_AFTER, Answer, Outcome, Run, closed_loop, open_loop
from bench.stats import percentile
from bench.sweep import Promise, Sweep, attempt_at, sweep

Virtually = Callable[[Any], Any]


class Service:
    """Draws one picture at a time in `service_s`; stalls for `stall_s` at the start of seconds."""

    def __init__(self, service_s: float, *, stall_s: float = 0.0) -> None:
        self._service_s, self._stall_s = service_s, stall_s
        self._free = asyncio.Lock()

    async def ask(self, index: int) -> Answer:
        async with self._free:
            into_second = asyncio.get_running_loop().time() % 1
            await asyncio.sleep(max(0.0, self._stall_s - into_second) + self._service_s)
        return Answer(200)


async def dead(index: int) -> Answer:
    return Answer(0, "refused")


def test_a_stall_appears_in_p99_of_the_open_loop_and_a_closed_one_hides_it(
    virtually: Virtually,
) -> None:
    """50 ms in each second, which 5% of the requests that arrive at random meet."""

    async def both() -> tuple[Run, Run]:
        service = Service(0.001, stall_s=0.050)
        opened = await open_loop(service.ask, poisson(100, 2000))
        return opened, await closed_loop(service.ask, callers=1, seconds=5)

    opened, closed = virtually(both())
    assert percentile(closed.latencies_ms, 99) < 2  # one of 950 requests a second is stalled
    assert max(closed.latencies_ms) > 45
    assert 35 < percentile(opened.latencies_ms, 99) < 60
    late = np.mean([latency > 5 for latency in opened.latencies_ms])
    assert 0.03 < late < 0.07


def test_latency_counts_from_when_a_request_was_due(virtually: Virtually) -> None:
    """A service of 10 ms that is asked twice at once answers the second after 20 ms."""

    async def run() -> Run:
        return await open_loop(Service(0.010).ask, [0.0, 0.0, 0.1])

    outcomes = virtually(run()).outcomes
    assert [outcome.latency_ms for outcome in outcomes] == pytest.approx([10, 20, 10])
    assert [outcome.sent for outcome in outcomes] == pytest.approx([0, 0, 0.1])


def test_a_queue_at_80_percent_is_as_long_as_theory_says(virtually: Virtually) -> None:
    """M/D/1: the mean wait is rho / (2 (1 - rho)) services (Pollaczek and Khinchine)."""

    async def run() -> Run:
        return await open_loop(Service(0.010).ask, poisson(80, 10_000))

    waits = virtually(run()).latencies_ms - 10
    assert waits.mean() == pytest.approx(10 * 0.8 / (2 * 0.2), rel=0.15)


@pytest.mark.parametrize("loop", ["open", "closed"])
def test_a_dead_service_is_given_up(virtually: Virtually, loop: str) -> None:
    async def run() -> Run:
        if loop == "open":
            return await open_loop(dead, poisson(10, 1000))
        return await closed_loop(dead, callers=1, seconds=1e9)

    ended = virtually(run())
    assert ended.died
    assert ended.codes == {"refused": len(ended.outcomes)}
    assert DEAD_AFTER <= len(ended.outcomes) <= DEAD_AFTER + 2


def test_a_service_that_dies_in_mid_run_leaves_what_was_measured(virtually: Virtually) -> None:
    async def dies(index: int) -> Answer:
        await asyncio.sleep(0.001)
        return Answer(200) if index < 50 else Answer(0, "refused")

    async def run() -> Run:
        return await open_loop(dies, poisson(100, 1000))

    ended = virtually(run())
    assert ended.died
    assert ended.codes["200"] == 50
    assert len(ended.good) == 50
    assert math.isinf(percentile(ended.latencies_ms, 99))


@pytest.mark.parametrize("status", [429, 500])
def test_who_is_refused_pauses_in_a_closed_loop(virtually: Virtually, status: int) -> None:
    async def refuses(index: int) -> Answer:
        return Answer(status)

    async def run() -> Run:
        return await closed_loop(refuses, callers=2, seconds=1.05, count=1000)

    assert len(virtually(run()).outcomes) == 2 * 11  # at once, and after each of ten pauses


def test_too_few_requests_show_a_broken_promise_and_no_kept_one() -> None:
    quick, slow = (Outcome(Answer(200), 0.0, 0.0, seconds) for seconds in (0.01, 1.0))
    promise = Promise(100, 99)
    assert promise.shown_by(Run([quick] * 367)) is None
    assert promise.shown_by(Run([quick] * 368)) is True
    assert promise.shown_by(Run([*[quick] * 10, slow])) is False
    assert promise.shown_by(Run([quick] * 10, died=True)) is False


@pytest.mark.parametrize("start", [20, 70, 90])
def test_the_sweep_finds_the_largest_rate(virtually: Virtually, start: float) -> None:
    """A service that refuses what it could not draw in time keeps the promise up to 70/s."""

    async def ask_at(per_second: float) -> Callable[[int], Any]:
        async def ask(index: int) -> Answer:
            await asyncio.sleep(0.02)
            return Answer(429 if per_second > 70 and index % 20 == 0 else 200)

        return ask

    async def run() -> Sweep:
        async def attempt(per_second: float) -> Any:
            ask = await ask_at(per_second)
            return await attempt_at(ask, Promise(100, 99), seconds=5)(per_second)

        return await sweep(attempt, start=start, precision=0.05)

    found = virtually(run())
    assert found.kept <= 70 < found.missed < math.inf
    assert len(found.trials) > 3
    assert found.missed - found.kept <= 0.05 * found.missed
    assert all(trial.kept == (trial.per_second <= 70) for trial in found.trials)


def test_the_sweep_ends_when_no_rate_is_kept_or_the_service_dies(virtually: Virtually) -> None:
    async def slow(index: int) -> Answer:
        await asyncio.sleep(1)
        return Answer(200)

    async def run(ask: Any) -> Sweep:
        return await sweep(attempt_at(ask, Promise(), seconds=5), start=40, slowest=4)

    found = virtually(run(slow))
    assert [trial.per_second for trial in found.trials] == [40, 20, 10, 5]
    assert found.kept == 0
    assert found.missed == 5
    assert len(virtually(run(dead)).trials) == 1


def test_a_trial_ends_when_the_promise_is_broken_for_good(virtually: Virtually) -> None:
    async def slow(index: int) -> Answer:
        await asyncio.sleep(0.2)
        return Answer(200)

    async def run() -> Any:
        return await attempt_at(slow, Promise(100, 99), seconds=100)(10)

    trial = virtually(run())
    assert not trial.kept
    assert 11 <= len(trial.run.outcomes) < 20  # of 1,000, of which 10 may be late
