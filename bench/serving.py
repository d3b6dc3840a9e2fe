"""The whole service under load, against its engine alone and against the queue's own floor.

    python -m bench.serving [PART ...] [--engine NAME] [--count N] [--requests N] [--seconds S]

`sidestep serve` runs beside the client on this machine. The engine `fake` takes 20 + 2n ms for n
pictures and sleeps meanwhile, as a CPU does while a GPU draws, so that what is measured is the
service. Parts: overhead (what it adds to a lone request), saturation (what it keeps of the engine's
throughput), steady (80% of it, at random times), overload (300% of it, within a deadline) and soak
(many requests: does memory grow?).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from bench.arrivals import poisson
from bench.bare_engine import BareEngine
from bench.http_client import HttpCaller, Target
from bench.load import Run, closed_loop, open_loop
from bench.machine import cores, load_average
from bench.queueing import floor_ms
from bench.running import Running, running
from bench.service import HOST
from bench.stats import percentile
from sidestep.errors import BenchmarkFailed

DEADLINE_MS = 1000
TIMEOUT_S = 60.0
BODY: dict[str, object] = {"prompt": "red apple", "seed": 7}


@dataclass(frozen=True)
class Setting:
    """What every part is told."""

    engine: BareEngine
    service: Running
    count: int
    requests: int
    seconds: float
    body: dict[str, object] = field(default_factory=dict)

    @property
    def capacity(self) -> float:
        """Requests per second that the engine alone could draw."""
        return self.engine.per_second / self.count

    def caller(self, **headers: str) -> AbstractAsyncContextManager[HttpCaller]:
        """Make a client of the service."""
        return calling(self.service, self.body, **headers)

    def floor_ms(self, per_second: float, requests: int) -> list[float]:
        """Simulate what waiting costs alone, with the very arrivals of a part."""
        engine = self.engine
        return floor_ms(
            poisson(per_second, requests).tolist(),
            engine.call_s,
            count=self.count,
            workers=engine.workers,
            max_batch=engine.best_batch,
        )


def main() -> None:
    """Print every figure beside what it should be."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; the first four if absent"
    )
    parser.add_argument("--engine", default="fake", help="what draws; fake if absent")
    parser.add_argument("--count", type=int, default=1, help="pictures of each request under load")
    parser.add_argument("--requests", type=int, default=10_000, help="requests of steady and soak")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the other parts")
    options = parser.parse_args()
    parts = options.parts or list(USUAL)
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"{unknown[0]!r} is no PART; there are {', '.join(PARTS)}")
    print(f"{cores()} cores, load average {load_average()} before the start")
    engine = BareEngine.measure(options.engine)
    print(f"engine alone: {engine}")
    with running("sidestep", "serve", "--engine", options.engine) as service:
        body = {**BODY, "count": options.count}
        limits = (options.count, options.requests, options.seconds)
        setting = Setting(engine, service, *limits, body)
        for part in parts:
            asyncio.run(PARTS[part](setting))
    print(f"load average {load_average()} at the end")


async def overhead(setting: Setting) -> None:
    """Compare lone requests with lone engine calls and empty answers, in alternating blocks.

    /livez does nothing, so its time is that of HTTP and of this machine's other work.
    """
    bare: list[float] = []
    asked: list[float] = []
    nothing: list[float] = []
    end = time.perf_counter() + setting.seconds
    async with calling(setting.service, BODY) as caller, calling(setting.service) as empty:
        while time.perf_counter() < end:
            bare += [1e3 * setting.engine.timed_call(1) for _ in range(10)]
            for _ in range(10):
                asked.append(await timed(caller))
                nothing.append(await timed(empty))
    bare_ms, asked_ms = percentile(bare, 50), percentile(asked, 50)
    told = f"p50 {asked_ms:.2f} ms, engine alone {bare_ms:.2f} ms, {len(asked)} requests"
    print(f"one caller: {told}")
    print(f"  /livez, which draws nothing: p50 {percentile(nothing, 50):.2f} ms")
    verdict("  overhead p50", asked_ms - bare_ms, "ms", at_most=3)


async def saturation(setting: Setting) -> None:
    """Let many callers ask without a pause."""
    calls = 4 * setting.engine.best_batch * setting.engine.workers
    callers = max(-(-calls // setting.count), 4)
    async with setting.caller() as caller:
        with Costs(setting.service) as costs:
            run = await closed_loop(caller.ask, callers=callers, seconds=setting.seconds)
    tell(f"{callers} callers", run)
    print(f"  {costs.of(run)}")
    reached = len(run.good) / run.seconds / setting.capacity
    verdict("  of the engine's best throughput", 100 * reached, "%", at_least=90)


async def steady(setting: Setting) -> None:
    """Ask at random times for 80% of what the engine can draw."""
    rate = 0.8 * setting.capacity
    async with setting.caller() as caller:
        with Costs(setting.service) as costs:
            run = await open_loop(caller.ask, poisson(rate, setting.requests))
    tell(f"open loop at 80%, {len(run.outcomes)} requests of {setting.count}", run)
    floor = setting.floor_ms(rate, setting.requests)
    print(f"  the queue's floor: {percentiles(floor)}; {costs.of(run)}")
    verdict("  p99", percentile(times(run, 200), 99), "ms", at_most=100)
    verdict("  errors", len(run.outcomes) - len(run.good), "", at_most=0)


async def overload(setting: Setting) -> None:
    """Ask for three times what the engine can draw, each within a deadline."""
    capacity = setting.capacity
    due = poisson(3 * capacity, int(3 * capacity * setting.seconds))
    async with setting.caller(**{"X-Deadline-Ms": str(DEADLINE_MS)}) as caller:
        with Costs(setting.service) as costs:
            run = await open_loop(caller.ask, due)
    in_time = [ms for ms in times(run, 200) if ms <= DEADLINE_MS]
    refused = [outcome.answer for outcome in run.outcomes if not outcome.answer.good]
    tell(f"open loop at 300%, deadline {DEADLINE_MS} ms", run)
    print(f"  {costs.of(run)}")
    goodput = len(in_time) / run.seconds / capacity
    verdict("  goodput of capacity", 100 * goodput, "%", at_least=90)
    verdict("  p99 of accepted", percentile(times(run, 200), 99), "ms", at_most=DEADLINE_MS)
    told = sum(answer.status == 429 and answer.retry_after for answer in refused)
    verdict("  refusals that are not 429 with Retry-After", len(refused) - told, "", at_most=0)
    verdict("  p99 of refusals", percentile(times(run, 429), 99), "ms", at_most=100)


async def soak(setting: Setting) -> None:
    """Send many requests and look at the service's memory meanwhile."""
    answers = Counter[str]()
    async with setting.caller() as caller:
        while answers.total() < setting.requests:
            tenth = -(-setting.requests // 10)
            run = await closed_loop(caller.ask, callers=32, seconds=3600, count=tenth)
            answers.update(run.codes)
            held = f"{setting.service.memory_mib():.1f} MiB"
            print(f"  {answers.total():6} requests: {held}, answers {dict(answers)}", flush=True)
    verdict("  errors", answers.total() - answers["200"], "", at_most=0)


async def timed(caller: HttpCaller) -> float:
    """Ask once; the milliseconds until the answer was there.

    Raises BenchmarkFailed for an answer that is not what was asked for, which may come sooner.
    """
    began = time.perf_counter()
    answer = await caller.ask()
    passed_ms = 1e3 * (time.perf_counter() - began)
    if not answer.good:
        raise BenchmarkFailed(f"{caller.target.path} answered {answer.code}; see the service's log")
    return passed_ms


@asynccontextmanager
async def calling(
    service: Running, body: dict[str, object] | None = None, **headers: str
) -> AsyncIterator[HttpCaller]:
    """Give a client of `POST /generate` with this body, or of `GET /livez` without one."""
    target = Target(HOST, service.port, "/generate" if body else "/livez")
    caller = HttpCaller(target, [json.dumps(body).encode() if body else b""], headers, TIMEOUT_S)
    try:
        yield caller
    finally:
        await caller.close()


class Costs:
    """What a block costs the service and the client in processor time."""

    def __init__(self, service: Running) -> None:
        """Watch `service` and this process."""
        self._service = service

    def __enter__(self) -> Costs:
        """Begin."""
        self._began = time.perf_counter()
        self._client_s, self._service_s = time.process_time(), self._service.cpu_s()
        return self

    def __exit__(self, *error: object) -> None:
        """End."""
        self._length_s = time.perf_counter() - self._began
        self._client_s = time.process_time() - self._client_s
        self._service_s = self._service.cpu_s() - self._service_s

    def of(self, run: Run) -> str:
        """Tell the costs of each request, and how much of one core was in use."""
        parts = []
        for name, spent_s in (("service", self._service_s), ("client", self._client_s)):
            each_ms, share = 1e3 * spent_s / len(run.outcomes), spent_s / self._length_s
            parts.append(f"{name} {each_ms:.2f} ms a request ({share:.0%} of a core)")
        return "CPU: " + ", ".join(parts)


def times(run: Run, status: int) -> list[float]:
    """List the latencies of one status."""
    return [outcome.latency_ms for outcome in run.outcomes if outcome.answer.status == status]


def percentiles(latencies: Sequence[float]) -> str:
    """Write the usual ones."""
    return ", ".join(f"p{p} {percentile(latencies, p):.1f} ms" for p in (50, 90, 99))


def tell(name: str, run: Run) -> None:
    """Print what became of the requests, and how late the client sent them."""
    late_ms = percentile(run.lateness_ms, 99)
    print(f"{name}: answers {run.codes}, of 200: {percentiles(times(run, 200))}")
    print(f"  the client sent within {late_ms:.1f} ms of when it was due (p99)")


def verdict(
    name: str,
    value: float,
    unit: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> None:
    """Print a figure and whether it is within its bound."""
    met = value >= at_least if at_least is not None else value <= (at_most or 0.0)
    bound = f"at least {at_least:g}" if at_least is not None else f"at most {at_most:g}"
    print(f"{name}: {value:.1f} {unit} ({bound}: {'met' if met else 'MISSED'})", flush=True)


USUAL = ("overhead", "saturation", "steady", "overload")
PARTS: dict[str, Callable[[Setting], Coroutine[Any, Any, None]]] = {
    **{part.__name__: part for part in (overhead, saturation, steady, overload)},
    soak.__name__: soak,
}

if __name__ == "__main__":
    main()
