"""The largest rate at which a service keeps its promise, by bisection."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.arrivals import poisson
from bench.load import Ask, Outcome, Run, open_loop
from bench.stats import least_sample, percentile, rank


@dataclass(frozen=True)
class Promise:
    """Of all requests, `percent` are answered with a picture within `within_ms`.

    A request that is refused or fails counts as one that took for ever.
    """

    within_ms: float = 100.0
    percent: float = 99.0

    def kept_by(self, run: Run) -> bool:
        """Whether it held in a run."""
        return not run.died and self.latency_ms(run) <= self.within_ms

    def shown_by(self, run: Run) -> bool | None:
        """Whether it held in a run; None where it did, and too few requests could show that."""
        kept = self.kept_by(run)
        return None if kept and len(run.outcomes) < least_sample(self.percent) else kept

    def latency_ms(self, run: Run) -> float:
        """Return the latency that `percent` of the requests kept to; maybe infinite."""
        return percentile(run.latencies_ms, self.percent)

    def least_requests(self, per_second: float, seconds: float) -> int:
        """Count the requests of `seconds`, or as many more as the percentile needs."""
        return max(math.ceil(per_second * seconds), least_sample(self.percent))

    def breaks(self, count: int) -> Callable[[Outcome], bool]:
        """Return what sees outcomes and tells when too many of `count` were late or failed."""
        left = count - rank(count, self.percent)

        def late(outcome: Outcome) -> bool:
            nonlocal left
            left -= not outcome.answer.good or outcome.latency_ms > self.within_ms
            return left < 0

        return late

    def __str__(self) -> str:
        return f"p{self.percent:g} <= {self.within_ms:g} ms"


@dataclass(frozen=True)
class Trial:
    """An open loop at one rate, in requests per second."""

    per_second: float
    run: Run
    kept: bool


@dataclass(frozen=True)
class Sweep:
    """All trials in their order; the answer lies between `kept` and `missed` per second."""

    trials: tuple[Trial, ...]

    @property
    def kept(self) -> float:
        """The largest rate at which the promise was kept; 0 if it never was."""
        return max((trial.per_second for trial in self.trials if trial.kept), default=0.0)

    @property
    def missed(self) -> float:
        """The smallest rate above `kept` at which it was not; infinite if none was tried."""
        above = (t.per_second for t in self.trials if not t.kept and t.per_second > self.kept)
        return min(above, default=math.inf)


async def sweep(
    attempt: Callable[[float], Awaitable[Trial]],
    *,
    start: float,
    precision: float = 0.05,
    slowest: float = 0.0,
    most: int = 10,
    failed: Callable[[], object] = lambda: None,
) -> Sweep:
    """Halve or double the rate from `start` until the promise turns, then bisect.

    precision: the share of the rate to find it to; slowest: the rate below which it is given up
    most: how many trials there may be
    Ends at once when the service dies, or when `failed` says so.
    """
    trials: list[Trial] = []
    rate, found = start, Sweep(())
    while len(trials) < most:
        trials.append(await attempt(rate))
        found = Sweep(tuple(trials))
        if trials[-1].run.died or failed():
            break
        unbounded = math.isinf(found.missed)  # and the share of infinity would be any rate's
        if found.kept and not unbounded and found.missed - found.kept <= precision * found.missed:
            break
        rate = 2 * found.kept if unbounded else (found.kept + found.missed) / 2
        if rate < slowest:
            break
    return found


def attempt_at(
    ask: Ask, promise: Promise, *, seconds: float
) -> Callable[[float], Awaitable[Trial]]:
    """Return what runs one trial: for `seconds`, or longer where the percentile needs more.

    It ends when so many requests are late that the promise cannot be kept any more.
    """
    seeds = iter(range(2**31))

    async def attempt(per_second: float) -> Trial:
        count = promise.least_requests(per_second, seconds)
        due = poisson(per_second, count, seed=next(seeds))
        run = await open_loop(ask, due, settled=promise.breaks(count))
        return Trial(per_second, run, promise.kept_by(run))

    return attempt
