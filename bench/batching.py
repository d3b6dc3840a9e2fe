"""`sidestep bench batching`: the service beside BentoML's own adaptive batching, in one run.

Both draw with the same generator and the same engine. They are loaded by turns, who begins changing
with each round, so that a busy machine slows both; requests of an open loop are due at the same
moments for both.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.arrivals import poisson
from bench.bare_engine import BareEngine
from bench.http_client import HttpCaller, Target
from bench.http_faults import failure
from bench.load import Ask, Run, closed_loop, open_loop
from bench.machine import machine
from bench.queueing import floor_ms
from bench.reports import Report, told_model
from bench.running import running
from bench.service import HOST
from bench.stats import (
    PERCENTS,
    Estimate,
    figure,
    paired_ratio_estimate,
    rounds_estimate,
    summary,
    told_estimate,
)
from sidestep.model_folder import ModelFolder

OURS, THEIRS, FLOOR = "sidestep", "BentoML", "the queue's floor"
CALLERS = 32
SHARES = (0.25, 0.5, 0.8)  # of what the engine alone draws
PROMPT, SEED = "red apple", 7
TIMEOUT_S = 60.0
WARM_S = 2.0  # BentoML's batcher learns from its first batches

Services = Mapping[str, Target]
Load = Callable[[Ask, int], Awaitable[Run]]


@dataclass(frozen=True)
class Plan:
    """How much to ask.

    rounds: turns of both services at each load; the ratio's interval comes from them and needs 6
    seconds: of each turn
    """

    rounds: int = 6
    seconds: float = 4.0
    tell: Callable[[str], None] = field(default=lambda line: None, repr=False)


@contextmanager
def both(engine: str) -> Iterator[Services]:
    """Run both services on free ports until the block ends."""
    with (
        running("sidestep", "serve", "--engine", engine) as ours,
        running("bench.bentoml_batching", "--engine", engine) as theirs,
    ):
        ports = {OURS: ours.port, THEIRS: theirs.port}
        yield {name: Target(HOST, port, "/generate") for name, port in ports.items()}


async def measure(services: Services, engine: BareEngine, plan: Plan) -> Report:
    """Load both services in every way; whatever happens to one, what was measured is reported."""
    begun = machine()  # its load before ours
    rows: list[dict[str, Any]] = []
    failed: str | None = None
    for name in services:
        await _ask(services[name], partial(_closed, callers=8, seconds=WARM_S), 0)
    for name, load, per_second in _loads(engine, plan):
        plan.tell(name)
        runs: dict[str, list[Run]] = {service: [] for service in services}
        for turn in range(plan.rounds):
            order = list(services) if turn % 2 == 0 else list(services)[::-1]
            for service in order:
                run = await _ask(services[service], load, turn)
                runs[service].append(run)
                found = failure(run, services[service].authority, answered=True)
                failed = failed or (found and f"{service}, {name}: {found}")
        rows += _rows(name, runs)
        if per_second is not None:
            rows.append(_floor(name, engine, per_second, plan))
        if failed:
            break
    return Report(
        kind="batching",
        rows=rows,
        model=told_model(ModelFolder.open()),
        prompts=[PROMPT],
        seeds=[SEED],
        settings={"engine": engine.name, "rounds": plan.rounds, "seconds": plan.seconds},
        figures={"engine_alone_per_s": figure(engine.per_second)},
        failed=failed,
        machine=begun,
    )


def _loads(engine: BareEngine, plan: Plan) -> Iterator[tuple[str, Load, float | None]]:
    """Name every load, with its requests per second where it has a rate."""
    yield "one caller", partial(_closed, callers=1, seconds=plan.seconds), None
    for share in SHARES:
        rate = share * engine.per_second
        load = partial(_open, per_second=rate, seconds=plan.seconds)
        yield f"{share:.0%} of the engine", load, rate
    yield f"{CALLERS} callers", partial(_closed, callers=CALLERS, seconds=plan.seconds), None


async def _closed(ask: Ask, turn: int, *, callers: int, seconds: float) -> Run:
    return await closed_loop(ask, callers=callers, seconds=seconds)


async def _open(ask: Ask, turn: int, *, per_second: float, seconds: float) -> Run:
    return await open_loop(ask, _due(per_second, seconds, turn))


def _due(per_second: float, seconds: float, turn: int) -> NDArray[np.float64]:
    return poisson(per_second, max(1, round(per_second * seconds)), seed=turn)


async def _ask(target: Target, load: Load, turn: int) -> Run:
    body = json.dumps({"prompt": PROMPT, "seed": SEED}).encode()
    caller = HttpCaller(target, [body], {}, TIMEOUT_S)
    try:
        return await load(caller.ask, turn)
    finally:
        await caller.close()


def _rows(load: str, runs: Mapping[str, list[Run]]) -> list[dict[str, Any]]:
    """Make a load's rows; `times_as_long` is the ratio of medians to ours."""
    latencies = {
        service: [[outcome.latency_ms for outcome in run.good] for run in its]
        for service, its in runs.items()
    }
    return [
        {
            **_latency(load, service, [turn for turn in latencies[service] if turn]),
            "pictures_per_s": told_estimate(_per_second(its)),
            "times_as_long": told_estimate(_ratio(latencies[service], latencies[OURS]))
            if service != OURS
            else None,
            "errors": sum(len(run.outcomes) - len(run.good) for run in its),
            "codes": dict(sum((Counter(run.codes) for run in its), Counter[str]())),
        }
        for service, its in runs.items()
    ]


def _floor(load: str, engine: BareEngine, per_second: float, plan: Plan) -> dict[str, Any]:
    """Simulate what waiting alone costs at the very arrivals of an open loop."""
    turns = [
        floor_ms(
            _due(per_second, plan.seconds, turn).tolist(),
            engine.call_s,
            count=1,
            workers=engine.workers,
            max_batch=engine.best_batch,
        )
        for turn in range(plan.rounds)
    ]
    nothing = dict.fromkeys(("pictures_per_s", "times_as_long", "errors"))
    return {**_latency(load, FLOOR, turns), **nothing, "codes": {}}


def _latency(load: str, service: str, turns: list[list[float]]) -> dict[str, Any]:
    latency = summary(turns)
    percentiles = {f"p{percent}_ms": latency[f"p{percent}"] for percent in PERCENTS}
    return {"load": load, "service": service, "answered": latency["n"], **percentiles}


def _ratio(above: list[list[float]], below: list[list[float]]) -> Estimate | None:
    pairs = [(a, b) for a, b in zip(above, below, strict=True) if a and b]
    return paired_ratio_estimate([a for a, _ in pairs], [b for _, b in pairs])


def _per_second(runs: list[Run]) -> Estimate | None:
    rates = [[len(run.good) / run.seconds] for run in runs if run.seconds]
    return rounds_estimate(rates, lambda values: float(np.mean(values)))
