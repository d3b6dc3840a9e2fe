"""The whole service under load, against its engine alone and against the queue's own floor.

    python -m bench.serving [PART ...] [--engine NAME] [--count N] [--requests N] [--seconds S]

`sidestep serve` runs beside the client on this machine. The engine `fake` takes 20 + 2n ms for n
pictures and sleeps meanwhile, as a CPU does while a GPU draws, so that what is measured is the
service. Parts: overhead (what it adds to a lone request), saturation (what it keeps of the engine's
throughput), steady (80% of it, at random times), overload (300% of it, within a deadline), versus
(beside BentoML's own batching) and soak (many requests: does memory grow?).
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bench.arrivals import poisson
from bench.bare_engine import BareEngine
from bench.http_load import Load, Outcome
from bench.machine import cores, load_average
from bench.queueing import floor_ms
from bench.running import Running, running
from bench.service import HOST
from bench.stats import percentile

DEADLINE_MS = 1000
BODY: dict[str, object] = {"prompt": "red apple", "seed": 7}
VERSUS_LOADS = (0.25, 0.5, 0.8)


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

    def load(self, **headers: str) -> Load:
        """Make a client of the service."""
        return Load(HOST, self.service.port, self.body, **headers)

    def floor_ms(self, per_second: float, requests: int) -> list[float]:
        """Simulate what waiting costs alone, with the very arrivals of `Load.poisson`."""
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
    port = setting.service.port
    load, empty = Load(HOST, port, BODY), Load(HOST, port, None)
    bare: list[float] = []
    asked: list[float] = []
    nothing: list[float] = []
    end = time.perf_counter() + setting.seconds
    while time.perf_counter() < end:
        bare += [1e3 * setting.engine.timed_call(1) for _ in range(10)]
        for _ in range(10):
            asked.append((await load.ask()).latency_ms)
            nothing.append((await empty.ask()).latency_ms)
    load.close()
    empty.close()
    bare_ms, asked_ms = percentile(bare, 50), percentile(asked, 50)
    told = f"p50 {asked_ms:.2f} ms, engine alone {bare_ms:.2f} ms, {len(asked)} requests"
    print(f"one caller: {told}")
    print(f"  /livez, which draws nothing: p50 {percentile(nothing, 50):.2f} ms")
    verdict("  overhead p50", asked_ms - bare_ms, "ms", at_most=3)


async def saturation(setting: Setting) -> None:
    """Let many callers ask without a pause."""
    load = setting.load()
    callers = -(-4 * setting.engine.best_batch * setting.engine.workers // setting.count)
    began = time.perf_counter()
    with Costs(setting.service) as costs:
        outcomes = await load.callers(max(callers, 4), setting.seconds)
    reached = good(outcomes) / (time.perf_counter() - began) / setting.capacity
    load.close()
    tell(f"{callers} callers", outcomes)
    print(f"  {costs.of(len(outcomes))}")
    verdict("  of the engine's best throughput", 100 * reached, "%", at_least=90)


async def steady(setting: Setting) -> None:
    """Ask at random times for 80% of what the engine can draw."""
    load, rate = setting.load(), 0.8 * setting.capacity
    with Costs(setting.service) as costs:
        outcomes = await load.poisson(rate, setting.requests)
    load.close()
    tell(f"open loop at 80%, {len(outcomes)} requests of {setting.count}", outcomes)
    floor = setting.floor_ms(rate, setting.requests)
    print(f"  the queue's floor: {percentiles(floor)}; {costs.of(len(outcomes))}")
    verdict("  p99", percentile(times(outcomes, 200), 99), "ms", at_most=100)
    verdict("  errors", len(outcomes) - good(outcomes), "", at_most=0)


async def overload(setting: Setting) -> None:
    """Ask for three times what the engine can draw, each within a deadline."""
    load, capacity = setting.load(X_Deadline_Ms=str(DEADLINE_MS)), setting.capacity
    began = time.perf_counter()
    with Costs(setting.service) as costs:
        outcomes = await load.poisson(3 * capacity, int(3 * capacity * setting.seconds))
    load.close()
    length = max(outcome.ended for outcome in outcomes) - began
    in_time = [ms for ms in times(outcomes, 200) if ms <= DEADLINE_MS]
    refused = [outcome for outcome in outcomes if outcome.status != 200]
    tell(f"open loop at 300%, deadline {DEADLINE_MS} ms", outcomes)
    print(f"  {costs.of(len(outcomes))}")
    verdict("  goodput of capacity", 100 * len(in_time) / length / capacity, "%", at_least=90)
    verdict("  p99 of accepted", percentile(times(outcomes, 200), 99), "ms", at_most=DEADLINE_MS)
    told = sum(outcome.status == 429 and outcome.retry_after for outcome in refused)
    verdict("  refusals that are not 429 with Retry-After", len(refused) - told, "", at_most=0)
    verdict("  p99 of refusals", percentile(times(outcomes, 429), 99), "ms", at_most=100)


async def versus(setting: Setting) -> None:
    """Ask this service and the same generator behind BentoML's batching, by turns."""
    command = ("bench.bentoml_batching", "--engine", setting.engine.name)
    with running(*command) as other:
        services = {"sidestep": setting.service, "BentoML": other}
        for service in services.values():  # its batcher learns from the first batches
            await Load(HOST, service.port, BODY).callers(8, 2)
        await _versus(services, "one caller", lambda load: load.callers(1, setting.seconds))
        for share in VERSUS_LOADS:
            rate = share * setting.engine.per_second
            count = int(rate * setting.seconds)
            ask = lambda load, rate=rate, count=count: load.poisson(rate, count)  # noqa: E731
            await _versus(services, f"{share:.0%} of capacity", ask)
            floor = replace(setting, count=1).floor_ms(rate, count)
            print(f"  {'floor':10} {percentiles(floor)}")
        await _versus(services, "32 callers", lambda load: load.callers(32, setting.seconds))


async def _versus(
    services: dict[str, Running], name: str, ask: Callable[[Load], Awaitable[list[Outcome]]]
) -> None:
    print(f"{name}:")
    for service_name, service in services.items():
        load, began = Load(HOST, service.port, BODY), time.perf_counter()
        outcomes = await ask(load)
        rate = good(outcomes) / (time.perf_counter() - began)
        load.close()
        errors = len(outcomes) - good(outcomes)
        told = f"{percentiles(times(outcomes, 200))}, {rate:.0f} pictures/s, {errors} errors"
        print(f"  {service_name:10} {told}", flush=True)


async def soak(setting: Setting) -> None:
    """Send many requests and look at the service's memory meanwhile."""
    load, answers = setting.load(), Counter[int]()
    while answers.total() < setting.requests:
        outcomes = await load.callers(32, 3600, most=setting.requests // 10)
        answers.update(outcome.status for outcome in outcomes)
        held = f"{setting.service.memory_mib():.1f} MiB"
        print(f"  {answers.total():6} requests: {held}, answers {dict(answers)}", flush=True)
    load.close()
    verdict("  errors", answers.total() - answers[200], "", at_most=0)


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

    def of(self, requests: int) -> str:
        """Tell the costs of each request, and how much of one core was in use."""
        parts = []
        for name, spent_s in (("service", self._service_s), ("client", self._client_s)):
            each_ms, share = 1e3 * spent_s / requests, spent_s / self._length_s
            parts.append(f"{name} {each_ms:.2f} ms a request ({share:.0%} of a core)")
        return "CPU: " + ", ".join(parts)


def good(outcomes: Sequence[Outcome]) -> int:
    """Count what was answered with pictures."""
    return sum(outcome.status == 200 for outcome in outcomes)


def times(outcomes: Sequence[Outcome], status: int) -> list[float]:
    """List the latencies of one status."""
    return [outcome.latency_ms for outcome in outcomes if outcome.status == status]


def percentiles(latencies: Sequence[float]) -> str:
    """Write the usual ones."""
    return ", ".join(f"p{p} {percentile(latencies, p):.1f} ms" for p in (50, 90, 99))


def tell(name: str, outcomes: Sequence[Outcome]) -> None:
    """Print what became of the requests, and how late the client sent them."""
    statuses = dict(Counter(outcome.status for outcome in outcomes))
    late_ms = percentile([outcome.late_ms for outcome in outcomes], 99)
    print(f"{name}: answers {statuses}, of 200: {percentiles(times(outcomes, 200))}")
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
    **{part.__name__: part for part in (versus, soak)},
}

if __name__ == "__main__":
    main()
