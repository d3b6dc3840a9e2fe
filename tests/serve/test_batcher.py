from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from serve.batcher import Batcher, Drawn
from sidestep.engines.fake import FakeEngine
from sidestep.errors import ServiceBusy, ServiceUnavailable

POISON = 666


class Gate:
    """Holds an engine's calls until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.entered = threading.Semaphore(0)

    def __call__(self, ids: NDArray[np.int64]) -> None:
        self.entered.release()
        assert self.opened.wait(10)
        if (ids == POISON).any():
            raise ValueError("poison")

    async def wait_for_call(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=10)


Make = Callable[..., Batcher]


@pytest_asyncio.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Batcher] = []

    def start(engine: FakeEngine, queue_limit: int = 64) -> Batcher:
        batcher = Batcher(engine, queue_limit=queue_limit)
        batcher.start()
        made.append(batcher)
        return batcher

    yield start
    for batcher in made:
        await asyncio.to_thread(batcher.stop)


def rows(count: int, first: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    ids = np.arange(first, first + count)[:, None].repeat(24, axis=1)
    noise = np.random.default_rng(first).standard_normal((count, 4, 16, 16), dtype=np.float32)
    return ids, noise


async def settle(futures: list[asyncio.Future[Drawn]]) -> list[Drawn | BaseException]:
    return await asyncio.gather(*futures, return_exceptions=True)


async def test_what_waits_while_the_engine_works_becomes_the_next_batch(make: Make) -> None:
    gate = Gate()
    engine = FakeEngine(before=gate)
    batcher = make(engine)
    futures = batcher.submit(*rows(1))
    await gate.wait_for_call()
    for i in range(10):
        futures += batcher.submit(*rows(1, i))
    gate.opened.set()
    drawn = [d for d in await settle(futures) if isinstance(d, Drawn)]
    assert engine.batches == [1, 8, 2]
    assert [d.timings.batch_size for d in drawn] == [1] + [8] * 8 + [2] * 2
    assert all(d.timings.queue_ms >= 0 and d.timings.engine_ms > 0 for d in drawn)


async def test_a_request_of_several_is_one_batch_at_once(make: Make) -> None:
    engine = FakeEngine()
    await settle(make(engine).submit(*rows(8)))
    assert engine.batches == [8]


async def test_idle_workers_share_the_queue(make: Make) -> None:
    gate = Gate()
    engine = FakeEngine(before=gate, workers=2)
    batcher = make(engine)
    while batcher._idle < 2:
        await asyncio.sleep(0.001)
    futures = batcher.submit(*rows(6))
    await gate.wait_for_call()
    await gate.wait_for_call()
    gate.opened.set()
    await settle(futures)
    assert sorted(engine.batches) == [3, 3]


async def test_each_row_gets_its_own_picture(make: Make) -> None:
    engine = FakeEngine(workers=2)
    ids, noise = rows(16)
    drawn = await asyncio.gather(*make(engine).submit(ids, noise))
    expected = FakeEngine(buckets=(16,))(ids, noise)
    assert all(np.array_equal(d.pixels, e) for d, e in zip(drawn, expected, strict=True))


async def test_a_bad_row_fails_alone(make: Make) -> None:
    gate = Gate()
    gate.opened.set()
    ids, noise = rows(4)
    ids[2] = POISON
    results = await settle(make(FakeEngine(before=gate)).submit(ids, noise))
    assert [isinstance(r, Drawn) for r in results] == [True, True, False, True]
    assert isinstance(results[2], ValueError)


async def test_an_engine_that_answers_too_few_rows_is_an_error_and_not_a_hang(make: Make) -> None:
    class Short(FakeEngine):
        def __call__(
            self, input_ids: NDArray[np.int64], noise: NDArray[np.float32]
        ) -> NDArray[np.uint8]:
            return super().__call__(input_ids, noise)[:0]

    batcher = make(Short())
    results = await settle(batcher.submit(*rows(2)) + batcher.submit(*rows(1)))
    assert [type(r) for r in results] == [ValueError] * 3


async def test_a_cancelled_job_is_never_drawn(make: Make) -> None:
    gate = Gate()
    engine = FakeEngine(before=gate)
    batcher = make(engine)
    first = batcher.submit(*rows(1))
    await gate.wait_for_call()
    left, kept = batcher.submit(*rows(2)), batcher.submit(*rows(1))
    for future in left:
        future.cancel()
    gate.opened.set()
    await settle(first + kept)
    assert engine.batches == [1, 1]


async def test_a_full_queue_refuses_all_of_a_request(make: Make) -> None:
    gate = Gate()
    engine = FakeEngine(before=gate)
    batcher = make(engine, queue_limit=4)
    futures = batcher.submit(*rows(1))
    await gate.wait_for_call()
    futures += batcher.submit(*rows(3))
    with pytest.raises(ServiceBusy, match="queue of 4") as caught:
        batcher.submit(*rows(2))
    assert caught.value.retry_after_s >= 0
    futures[1].cancel()
    futures += batcher.submit(*rows(2))  # a cancelled job gives its place away
    gate.opened.set()
    results = await settle(futures)
    assert sum(isinstance(r, Drawn) for r in results) == 5
    assert engine.batches == [1, 4]


async def test_stop_fails_what_waits_and_finishes_what_runs(make: Make) -> None:
    gate = Gate()
    batcher = make(FakeEngine(before=gate))
    running = batcher.submit(*rows(1))
    await gate.wait_for_call()
    waiting = batcher.submit(*rows(2))
    stopping = asyncio.ensure_future(asyncio.to_thread(batcher.stop))
    results = await settle(waiting)
    assert [type(r) for r in results] == [ServiceUnavailable] * 2
    assert not batcher.ready
    gate.opened.set()
    await stopping
    assert isinstance((await settle(running))[0], Drawn)
    with pytest.raises(ServiceUnavailable):
        batcher.submit(*rows(1))
    assert not any(thread.name.startswith("engine-") for thread in threading.enumerate())
