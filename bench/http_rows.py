"""A loop of requests, and the row of the report that it becomes."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bench.load import Run
from bench.stats import blocks, figure, summary, told_percentile
from bench.sweep import Promise


def row_of(
    loop: str,
    run: Run,
    promise: Promise,
    *,
    per_second: float | None = None,
    callers: int | None = None,
    purpose: str | None = None,
) -> dict[str, Any]:
    """Make the report's row of one loop.

    purpose: what a loop was for that was not asked for
    """
    good = run.good
    latencies = [outcome.latency_ms for outcome in good]
    within = sum(latency <= promise.within_ms for latency in latencies)
    return {
        "loop": loop,
        "purpose": purpose,
        "asked_per_second": figure(per_second),
        "callers": callers,
        "requests": len(run.outcomes),
        "codes": run.codes,
        "repeated": sum(outcome.answer.repeated for outcome in run.outcomes),
        "answered_per_s": figure(len(good) / run.seconds if run.seconds else None),
        "within_slo_percent": figure(100 * within / max(1, len(run.outcomes))),
        "slo_kept": promise.shown_by(run),
        "latency_ms": summary(blocks(latencies)),
        "split_ms": split_ms(run),
        "batches": _batches(run),
        "lateness_p99_ms": told_percentile(run.lateness_ms, 99),
        "samples_ms": [round(latency, 2) for latency in latencies],
    }


def split_ms(run: Run) -> dict[str, Any]:
    """Split the latency of pictures into the service's parts and the rest.

    queue, engine and encode are the service's own words (Server-Timing); network is what the
    caller waited for besides: HTTP, sockets, the service's event loop and the caller's own.
    A percentile that the sample is too small for is None.
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
        name: {"p50": told_percentile(ms, 50), "p99": told_percentile(ms, 99)}
        for name, ms in parts.items()
    }


def _batches(run: Run) -> dict[str, int]:
    """Count pictures by the size of the batch that they were drawn in."""
    sizes = [int(o.answer.timings["batch"]) for o in run.good if "batch" in o.answer.timings]
    return {str(size): count for size, count in sorted(Counter(sizes).items())}
