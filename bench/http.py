"""`sidestep bench http`: a service under load, as its callers see it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.arrivals import poisson
from bench.gpu_watch import add_loads, watching_gpus
from bench.http_client import HttpCaller, Target, allow_connections
from bench.http_faults import failure
from bench.http_rows import row_of
from bench.load import Run, closed_loop, open_loop
from bench.machine import machine
from bench.reports import Report
from bench.stats import figure, is_above, least_sample
from bench.sweep import Promise, Sweep, Trial, attempt_at, sweep

PROMPTS = ("red apple", "octopus", "fire engine", "sunflower", "pizza", "cat face", "rocket")
LATE_MS = 5.0  # p99 of the load generator's own lateness above which it disturbs what it measures


@dataclass(frozen=True)
class Plan:
    """What to ask, how often and what is promised.

    rate: requests per second of one open loop; the largest one is searched if absent
    callers: of a closed loop, beside the open one; 0 for none
    seconds: of each loop, or longer where the promise's percentile needs more requests
    warm_s: of a closed loop of two callers before, which does not count
    body: what every request carries besides prompt and seed; the whole body if it has a prompt
    """

    rate: float | None = None
    callers: int = 0
    seconds: float = 20.0
    promise: Promise = Promise()
    prompts: Sequence[str] = PROMPTS
    body: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    timeout_s: float = 30.0
    precision: float = 0.05
    warm_s: float = 2.0
    tell: Callable[[str], None] = field(default=lambda line: None, repr=False)


async def measure(target: Target, plan: Plan, **told: Any) -> Report:
    """Load the service; whatever happens to it, what was measured is reported.

    told: what the caller knows of it, for the report, such as its model
    """
    begun = machine()  # its load before ours
    allow_connections()
    caller = HttpCaller(target, bodies(plan), plan.headers, plan.timeout_s)
    measured = _Measured(target, plan.promise)
    with watching_gpus() as noted:
        found = await _load(caller, plan, measured)
    return Report(
        kind="http",
        rows=measured.rows,
        prompts=[str(plan.body["prompt"])] if "prompt" in plan.body else list(plan.prompts),
        settings={"path": target.path, "body": plan.body, **_settings(plan)},
        figures=_figures(found, plan),
        failed=measured.failed,
        machine={**begun, "gpus": add_loads(begun["gpus"], noted)},
        **told,
    )


@dataclass
class _Measured:
    """The rows so far, and the first failure, after which nothing more is asked."""

    target: Target
    promise: Promise
    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: str | None = None
    answered: bool = False  # whether the service ever gave any answer

    def add(self, loop: str, run: Run, **asked: Any) -> None:
        self.rows.append(row_of(loop, run, self.promise, **asked))
        self.look_at(run)

    def look_at(self, run: Run) -> None:
        self.failed = self.failed or failure(run, self.target.authority, answered=self.answered)
        self.answered |= any(outcome.answer.status for outcome in run.outcomes)


async def _load(caller: HttpCaller, plan: Plan, measured: _Measured) -> Sweep:
    """Warm up, then run the loops that were asked for until one fails; return what was found."""
    found = Sweep(())
    try:
        warm = await closed_loop(caller.ask, callers=2, seconds=plan.warm_s)
        measured.look_at(warm)
        if measured.failed is None and plan.callers:
            plan.tell(f"closed loop of {plan.callers}")
            run = await closed_loop(caller.ask, callers=plan.callers, seconds=plan.seconds)
            measured.add("closed", run, callers=plan.callers)
        if measured.failed is None and plan.rate is not None:
            count = plan.promise.least_requests(plan.rate, plan.seconds)
            run = await open_loop(caller.ask, poisson(plan.rate, count))
            found = Sweep((Trial(plan.rate, run, plan.promise.kept_by(run)),))
            measured.add("open", run, per_second=plan.rate)
        elif measured.failed is None:
            found = await _search(caller, plan, measured)
    finally:
        await caller.close()
    if not measured.rows:
        measured.add("closed", warm, callers=2, purpose="warm-up")
    return found


async def _search(caller: HttpCaller, plan: Plan, measured: _Measured) -> Sweep:
    """Bisect from the rate that a few callers reach, who wait for each other's answers."""
    guess = await closed_loop(caller.ask, callers=8, seconds=min(4.0, plan.seconds))
    measured.add("closed", guess, callers=8, purpose="first guess")
    if not guess.good:
        measured.failed = measured.failed or "nothing was answered with a picture"
    if measured.failed is not None:
        return Sweep(())
    attempt = attempt_at(caller.ask, plan.promise, seconds=plan.seconds)

    async def told(per_second: float) -> Trial:
        trial = await attempt(per_second)
        measured.add("open", trial.run, per_second=per_second)
        plan.tell(f"{per_second:.1f}/s: {_verdict(trial, plan.promise)}")
        return trial

    start = len(guess.good) / guess.seconds
    # A trial at a lower rate would last more than six times as long as it should.
    slowest = least_sample(plan.promise.percent) / (6 * plan.seconds)
    return await sweep(
        told,
        start=start,
        precision=plan.precision,
        slowest=slowest,
        failed=lambda: measured.failed,
    )


def _verdict(trial: Trial, promise: Promise) -> str:
    """Tell of a trial; it ends before the promise's percentile is known if that is broken."""
    verdict, requests = "kept" if trial.kept else "missed", len(trial.run.outcomes)
    if requests < least_sample(promise.percent):
        return f"{verdict} after {requests} requests"
    return f"p{promise.percent:g} {promise.latency_ms(trial.run):.1f} ms, {verdict}"


def bodies(plan: Plan) -> list[bytes]:
    """Write the bodies that requests take in turn: each prompt, with seeds of its own."""
    if "prompt" in plan.body:
        return [json.dumps(plan.body).encode()]
    return [
        json.dumps({**plan.body, "prompt": prompt, "seed": seed}).encode()
        for seed, prompt in enumerate(plan.prompts)
    ]


def _settings(plan: Plan) -> dict[str, Any]:
    return {
        "rate": plan.rate,
        "callers": plan.callers,
        "seconds": plan.seconds,
        "slo_ms": plan.promise.within_ms,
        "slo_percent": plan.promise.percent,
    }


def _figures(found: Sweep, plan: Plan) -> dict[str, Any]:
    # A rate above the smallest one that was missed has no part in the answer.
    decisive = [trial for trial in found.trials if trial.per_second <= found.missed]
    late = [is_above(trial.run.lateness_ms, 99, LATE_MS) for trial in decisive]
    searched = plan.rate is None and bool(found.trials)
    return {
        "slo": str(plan.promise),
        "largest_rate_kept": figure(found.kept) if searched else None,
        "smallest_rate_missed": figure(found.missed) if searched else None,
        "generator_late": any(late),
    }
