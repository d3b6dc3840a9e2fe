"""A contender at one batch size: its blocks of calls, and the row that they become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.contender import Contender
from bench.costs import device_of
from bench.stats import paired_ratio_estimate, rounds_estimate, summary, told_estimate
from sidestep.errors import BenchmarkFailed

TRIAL = 5  # calls to choose the thread count by


@dataclass
class Timed:
    """Rounds of calls in milliseconds, with the thread count that was fastest in a trial.

    tried_ms: the fastest call of each thread count's trial; threads: the best of them
    build_s: what compiling for this batch size took, where that happens at run time
    failed: why nothing more was timed, if so
    """

    contender: Contender
    batch: int
    rounds: list[list[float]] = field(default_factory=list)
    tried_ms: dict[int | None, float] = field(default_factory=dict)
    threads: int | None = None
    build_s: float | None = None
    failed: str = ""

    @property
    def name(self) -> str:
        """The contender's."""
        return self.contender.name

    @property
    def seconds(self) -> float:
        """The time of all timed calls."""
        return sum(map(sum, self.rounds)) / 1e3

    def pilot(self) -> float:
        """Choose the thread count, and return about how long a call takes, in milliseconds."""
        for threads in self.contender.threads:
            if times := self._order(calls=TRIAL, warmup=2, threads=threads):
                self.tried_ms[threads] = min(times)
        self.threads = min(self.tried_ms, key=lambda count: self.tried_ms[count], default=None)
        return max(0.1, self.tried_ms.get(self.threads, 0.0))

    def block(self, calls: int, warmup: int) -> None:
        """Time one block; a contender that fails is left alone after."""
        if times := self._order(calls=calls, warmup=warmup, threads=self.threads):
            self.rounds.append(times)

    def _order(self, **details: Any) -> list[float]:
        if self.failed:
            return []
        try:
            told = self.contender.order("time", batch=self.batch, **details)
        except BenchmarkFailed as error:
            self.failed = f"at batch {self.batch} {error}"
            return []
        self.build_s = told["build_s"]
        times: list[float] = told["ms"]
        return times


def row_of(
    one: Timed,
    all_timed: Sequence[Timed],
    costs: Mapping[str, Any],
    stages: Mapping[str, Sequence[float]],
) -> dict[str, Any]:
    """Make the report's row: latency, rate, stages, what the arithmetic allows, the ratio."""
    samples = [ms for times in one.rounds for ms in times]
    first = next(other for other in all_timed if other.batch == one.batch)
    rate = rounds_estimate(one.rounds, lambda ms: float(1e3 * one.batch / np.mean(ms)))
    ratio = paired_ratio_estimate(one.rounds, first.rounds) if one is not first else None
    return {
        "name": one.name,
        "batch": one.batch,
        "threads": one.threads,
        "threads_tried_ms": {str(n): ms for n, ms in one.tried_ms.items() if n is not None},
        "latency_ms": summary(one.rounds),
        "images_per_s": told_estimate(rate),
        "times_as_long": told_estimate(ratio),
        "build_s": one.build_s,
        "stages_ms": {name: float(f"{np.median(ms):.6g}") for name, ms in stages.items()},
        **_arithmetic(one, samples, costs),
        "rounds_ms": one.rounds,
        "failed": one.failed or None,
    }


def _arithmetic(
    one: Timed, samples: Sequence[float], costs: Mapping[str, Any]
) -> dict[str, float | None]:
    """Compare with the arithmetic: floor = operations / the machine's measured peak.

    Nothing is said of who computes in another format or on another device than the peak.
    """
    mine = (one.contender.precision, device_of(one.name))
    peak_of = tuple(costs.get("peak", {}).get(name) for name in ("precision", "device"))
    if "flops" not in costs or not samples or mine != peak_of:
        return {"tflops": None, "percent_of_peak": None, "floor_ms": None}
    flops = one.batch * sum(costs["flops"].values())
    peak = max(costs["peak"][name] for name in ("matmul_tflops", "convolution_tflops"))
    reached = flops / (1e-3 * float(np.median(samples))) / 1e12
    return {
        "tflops": float(f"{reached:.4g}"),
        "percent_of_peak": float(f"{100 * reached / peak:.4g}"),
        "floor_ms": float(f"{1e3 * flops / (peak * 1e12):.4g}"),
    }
