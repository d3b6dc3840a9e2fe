"""The whole service on an engine that takes 20 + 2n ms for n pictures, against that engine alone.

    python -m bench.serving [--count N] [--requests N] [--seconds S]

`sidestep serve --engine fake` runs beside the client on this machine. The engine sleeps, as a CPU
does while a GPU draws, so that what is measured is the service: what it adds to a lone request,
what it keeps of the engine's throughput, and what it does at 80% and at 300% of it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from bench.http_load import Load, Outcome, percentile
from sidestep.engines.fake import FakeEngine
from sidestep.engines.load import load_engine
from sidestep.model_folder import ModelFolder

HOST = "127.0.0.1"
DEADLINE_MS = 1000
BODY: dict[str, object] = {"prompt": "red apple", "seed": 7}


def main() -> None:
    """Print every figure beside what it should be."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--count", type=int, default=1, help="pictures of each request under load")
    parser.add_argument("--requests", type=int, default=10_000, help="requests at 80%% of capacity")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the other parts")
    options = parser.parse_args()
    load_1, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    print(f"{platform.machine()}, {cores} cores, load average {load_1:.1f} before the start")
    engine = load_engine(ModelFolder.open(), "fake")
    assert isinstance(engine, FakeEngine)
    with serving() as port:
        asyncio.run(measure(engine, port, options))
    print(f"load average {os.getloadavg()[0]:.1f} at the end")


@contextmanager
def serving(engine: str = "fake") -> Iterator[int]:
    """Run the service on a free port until the block ends."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "sidestep", "serve", "--engine", engine, "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert "ready" in process.stdout.readline(), "the service did not start"
            yield port
        finally:
            process.terminate()


async def measure(engine: FakeEngine, port: int, options: argparse.Namespace) -> None:
    """Run all parts against a running service."""
    await overhead(engine, port, options.seconds)
    per_second = bare_per_second(engine, options.seconds / 4)
    capacity = per_second / options.count
    body = {**BODY, "count": options.count}
    load = Load(HOST, port, body)
    began = time.perf_counter()
    outcomes = await load.callers(-(-32 // options.count), options.seconds)
    reached = options.count * good(outcomes) / (time.perf_counter() - began) / per_second
    verdict("saturation, of the engine's best throughput", 100 * reached, "%", at_least=90)
    steady = await load.poisson(0.8 * capacity, options.requests)
    await load.close()
    tell(f"open loop at 80%, {len(steady)} requests of {options.count}", steady)
    verdict("  p99", percentile(times(steady, 200), 99), "ms", at_most=100)
    verdict("  errors", len(steady) - good(steady), "", at_most=0)
    await overload(port, body, capacity, options.seconds)


async def overhead(engine: FakeEngine, port: int, seconds: float) -> None:
    """Compare lone requests with lone engine calls and empty answers, in alternating blocks.

    /livez does nothing, so its time is that of HTTP and of this machine's other work.
    """
    load, empty = Load(HOST, port, BODY), Load(HOST, port, None)
    bare: list[float] = []
    asked: list[float] = []
    floor: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        bare += [1e3 * call_s(engine, 1) for _ in range(10)]
        for _ in range(10):
            asked.append((await load.ask(time.perf_counter())).latency_ms)
            floor.append((await empty.ask(time.perf_counter())).latency_ms)
    await load.close()
    await empty.close()
    bare_ms, asked_ms = percentile(bare, 50), percentile(asked, 50)
    print(
        f"one caller: p50 {asked_ms:.2f} ms, engine alone {bare_ms:.2f} ms, {len(asked)} requests"
    )
    print(f"  /livez, which draws nothing: p50 {percentile(floor, 50):.2f} ms")
    verdict("  overhead p50", asked_ms - bare_ms, "ms", at_most=3)


async def overload(port: int, body: dict[str, object], capacity: float, seconds: float) -> None:
    """Ask for three times what the engine can draw, each within a deadline."""
    load = Load(HOST, port, body, X_Deadline_Ms=str(DEADLINE_MS))
    began = time.perf_counter()
    outcomes = await load.poisson(3 * capacity, int(3 * capacity * seconds))
    rate = len(outcomes) / (time.perf_counter() - began)
    await load.close()
    length = max(outcome.ended for outcome in outcomes) - began
    in_time = [ms for ms in times(outcomes, 200) if ms <= DEADLINE_MS]
    refused = [outcome for outcome in outcomes if outcome.status != 200]
    tell(f"open loop at 300% ({rate / capacity:.0%} reached), deadline {DEADLINE_MS} ms", outcomes)
    verdict("  goodput of capacity", 100 * len(in_time) / length / capacity, "%", at_least=90)
    verdict("  p99 of accepted", percentile(times(outcomes, 200), 99), "ms", at_most=DEADLINE_MS)
    told = sum(outcome.status == 429 and outcome.retry_after for outcome in refused)
    verdict("  refusals that are not 429 with Retry-After", len(refused) - told, "", at_most=0)
    verdict("  p99 of refusals", percentile(times(outcomes, 429), 99), "ms", at_most=100)


def bare_per_second(engine: FakeEngine, seconds: float) -> float:
    """Measure the engine's best throughput in pictures per second, alone."""
    size, calls, end = engine.spec.max_batch, 0, time.perf_counter() + seconds
    began = time.perf_counter()
    while time.perf_counter() < end:
        call_s(engine, size)
        calls += 1
    per_second = size * calls / (time.perf_counter() - began)
    print(f"engine alone: {per_second:.1f} pictures/s in batches of {size}")
    return per_second


def call_s(engine: FakeEngine, size: int) -> float:
    """Call the engine once; seconds."""
    spec = engine.spec
    ids = np.zeros((size, spec.tokens), np.int64)
    noise = np.zeros((size, *spec.latent_shape), np.float32)
    began = time.perf_counter()
    engine(ids, noise)
    return time.perf_counter() - began


def good(outcomes: Sequence[Outcome]) -> int:
    """Count what was answered with pictures."""
    return sum(outcome.status == 200 for outcome in outcomes)


def times(outcomes: Sequence[Outcome], status: int) -> list[float]:
    """List the latencies of one status."""
    return [outcome.latency_ms for outcome in outcomes if outcome.status == status]


def tell(name: str, outcomes: Sequence[Outcome]) -> None:
    """Print what became of the requests."""
    statuses = Counter(outcome.status for outcome in outcomes)
    latencies = times(outcomes, 200)
    parts = ", ".join(f"p{p} {percentile(latencies, p):.0f} ms" for p in (50, 90, 99))
    print(f"{name}: answers {dict(statuses)}, of 200: {parts}")


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


if __name__ == "__main__":
    main()
