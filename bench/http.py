"""`sidestep bench http`: a service under load, as its callers see it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.arrivals import poisson
from bench.http_client import HttpCaller, Target
from bench.load import Run, closed_loop, open_loop
from bench.machine import machine
from bench.reports import Report
from bench.stats import blocks, least_sample, percentile, summary
from bench.sweep import Promise, Sweep, Trial, attempt_at, sweep

PROMPTS = ("red apple", "octopus", "fire engine", "sunflower", "pizza", "cat face", "rocket")
REFUSED = (429, 503)  # a service that is asked for too much may say so; it has not failed
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
    caller = HttpCaller(target, bodies(plan), plan.headers, plan.timeout_s)
    rows: list[dict[str, Any]] = []
    failed, found = None, Sweep(())
    try:
        warm = await closed_loop(caller.ask, callers=2, seconds=plan.warm_s)
        failed = _failure(warm)
        if failed is None and plan.callers:
            plan.tell(f"closed loop of {plan.callers}")
            run = await closed_loop(caller.ask, callers=plan.callers, seconds=plan.seconds)
            rows.append(row_of("closed", run, plan.promise, callers=plan.callers))
            failed = _failure(run)
        if failed is None and plan.rate is not None:
            count = plan.promise.least_requests(plan.rate, plan.seconds)
            run = await open_loop(caller.ask, poisson(plan.rate, count))
            found = Sweep((Trial(plan.rate, run, plan.promise.kept_by(run)),))
            failed = _failure(run)
        elif failed is None:
            found, failed = await _search(caller, plan)
    finally:
        await caller.close()
    if not rows and not found.trials:
        rows.append(row_of("closed", warm, plan.promise, callers=2))
    rows += [row_of("open", t.run, plan.promise, per_second=t.per_second) for t in found.trials]
    return Report(
        kind="http",
        rows=rows,
        prompts=[str(plan.body["prompt"])] if "prompt" in plan.body else list(plan.prompts),
        settings={"path": target.path, "body": plan.body, **_settings(plan)},
        figures=_figures(found, plan),
        failed=failed,
        machine=begun,
        **told,
    )


async def _search(caller: HttpCaller, plan: Plan) -> tuple[Sweep, str | None]:
    """Bisect from the rate that a few callers reach, who wait for each other's answers."""
    guess = await closed_loop(caller.ask, callers=8, seconds=min(4.0, plan.seconds))
    failed = _failure(guess)
    if failed is not None or not guess.good:
        return Sweep(()), failed or "nothing was answered with a picture"
    attempt = attempt_at(caller.ask, plan.promise, seconds=plan.seconds)

    async def told(per_second: float) -> Trial:
        nonlocal failed
        trial = await attempt(per_second)
        failed = failed or _failure(trial.run)
        latency = plan.promise.latency_ms(trial.run)
        verdict = "kept" if trial.kept else "missed"
        plan.tell(f"{per_second:.1f}/s: p{plan.promise.percent:g} {latency:.1f} ms, {verdict}")
        return trial

    start = len(guess.good) / guess.seconds
    # A trial at a lower rate would last more than six times as long as it should.
    slowest = least_sample(plan.promise.percent) / (6 * plan.seconds)
    found = await sweep(
        told, start=start, precision=plan.precision, slowest=slowest, failed=lambda: failed
    )
    return found, failed


def bodies(plan: Plan) -> list[bytes]:
    """Write the bodies that requests take in turn: each prompt, with seeds of its own."""
    if "prompt" in plan.body:
        return [json.dumps(plan.body).encode()]
    return [
        json.dumps({**plan.body, "prompt": prompt, "seed": seed}).encode()
        for seed, prompt in enumerate(plan.prompts)
    ]


def row_of(loop: str, run: Run, promise: Promise, **asked: Any) -> dict[str, Any]:
    """Make the report's row of one loop."""
    good = run.good
    latencies = [outcome.latency_ms for outcome in good]
    within = sum(latency <= promise.within_ms for latency in latencies)
    return {
        "loop": loop,
        "asked_per_second": _figure(asked.get("per_second", math.nan)),
        "callers": asked.get("callers"),
        "requests": len(run.outcomes),
        "codes": run.codes,
        "answered_per_s": _figure(len(good) / run.seconds if run.seconds else math.nan),
        "within_slo_percent": _figure(100 * within / max(1, len(run.outcomes))),
        "slo_kept": promise.kept_by(run),
        "latency_ms": summary(blocks(latencies)),
        "split_ms": split_ms(run),
        "batches": _batches(run),
        "lateness_p99_ms": _figure(percentile(run.lateness_ms, 99)),
        "samples_ms": [round(latency, 2) for latency in latencies],
    }


def split_ms(run: Run) -> dict[str, Any]:
    """Split the latency of pictures into the service's parts and the rest.

    queue, engine and encode are the service's own words (Server-Timing); network is what the
    caller waited for besides: HTTP, sockets, the service's event loop and the caller's own.
    """
    parts: dict[str, list[float]] = {}
    for outcome in run.good:
        timings = outcome.answer.timings
        for name in ("queue", "engine", "encode"):
            if name in timings:
                parts.setdefault(name, []).append(timings[name])
        if "total" in timings:
            parts.setdefault("network", []).append(outcome.latency_ms - timings["total"])
    return {
        name: {"p50": _figure(percentile(ms, 50)), "p99": _figure(percentile(ms, 99))}
        for name, ms in parts.items()
    }


def _batches(run: Run) -> dict[str, int]:
    """Count pictures by the size of the batch that they were drawn in."""
    sizes = [int(o.answer.timings["batch"]) for o in run.good if "batch" in o.answer.timings]
    return {str(size): count for size, count in sorted(Counter(sizes).items())}


def _failure(run: Run) -> str | None:
    """Tell what ended or spoiled a loop; refusals are no failure."""
    if run.died:
        return f"the service died: {_last_codes(run)}"
    wrong = {
        code: count
        for code, count in run.codes.items()
        if not code.startswith("2") and code not in map(str, REFUSED)
    }
    if not wrong:
        return None
    counts = ", ".join(f"{count} times {code}" for code, count in wrong.items())
    return f"of {len(run.outcomes)} requests some were answered wrongly: {counts}"


def _last_codes(run: Run) -> str:
    last = Counter(outcome.answer.code for outcome in run.outcomes[-20:])
    return ", ".join(last) + f"; {len(run.good)} of {len(run.outcomes)} requests were answered well"


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
    late = [percentile(trial.run.lateness_ms, 99) for trial in decisive]
    searched = plan.rate is None and bool(found.trials)
    return {
        "slo": str(plan.promise),
        "largest_rate_kept": _figure(found.kept) if searched else None,
        "smallest_rate_missed": _figure(found.missed) if searched else None,
        "generator_late": bool(late) and max(late) > LATE_MS,
    }


def _figure(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None
