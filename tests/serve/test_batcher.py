from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import wait
from dataclasses import replace

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from serve.batcher import Batcher
from serve.device import Device
from serve.lines import Drawn, Job, Lines
from sidestep.engines.fake import FakeEngine
from sidestep.errors import ServiceBusy, ServiceUnavailable

POISON = 666
LONG_S = 60.0


class Gate:
    """Holds an engine's calls until it is opened; a poisoned row or a fault fails them."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.opened.set()
        self.entered = threading.Semaphore(0)
        self.fault = False

    def __call__(self, ids: NDArray[np.int64]) -> None:
        self.entered.release()
        assert self.opened.wait(20)
        if self.fault:
            raise RuntimeError("a fault of the device")
        if (ids == POISON).any():
            raise ValueError("poison")

    def close(self) -> None:
        self.opened.clear()
        while self.entered.acquire(blocking=False):
            pass

    def wait_for_call(self) -> None:
        assert self.entered.acquire(timeout=20)


Make = Callable[..., Batcher]


@pytest_asyncio.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Batcher] = []

    def start(
        engine: FakeEngine,
        queue_limit: int = 64,
        reopen: Callable[[], FakeEngine] | None = None,
    ) -> Batcher:
        batcher = Batcher(Device(engine, reopen or (lambda: engine)), queue_limit=queue_limit)
        batcher.start()
        made.append(batcher)
        engine.batches.clear()
        return batcher

    yield start
    for batcher in made:
        await asyncio.to_thread(batcher.stop)


def rows(count: int, first: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    ids = np.arange(first, first + count)[:, None].repeat(24, axis=1)
    noise = np.random.default_rng(first).standard_normal((count, 4, 16, 16), dtype=np.float32)
    return ids, noise


def submit(
    batcher: Batcher, count: int, *, key: str = "a", first: int = 0, deadline_s: float = LONG_S
) -> list[Job]:
    jobs = batcher.admit(key, count, deadline_s)
    batcher.supply(jobs, *rows(count, first))
    return jobs


def settle(jobs: Sequence[Job]) -> list[Drawn | BaseException]:
    _, left = wait([job.drawn for job in jobs], timeout=20)
    assert not left, "a job was lost"
    return [job.drawn.exception() or job.drawn.result() for job in jobs]


def held(gate: Gate, batcher: Batcher) -> list[Job]:
    """Occupy one engine thread until the gate opens."""
    gate.close()
    jobs = submit(batcher, 1, key="holder")
    gate.wait_for_call()
    return jobs


def test_what_waits_while_the_engine_works_becomes_the_next_batch(make: Make) -> None:
    gate = Gate()
    engine = FakeEngine(before=gate)
    batcher = make(engine)
    jobs = held(gate, batcher)
    for i in range(10):
        jobs += submit(batcher, 1, first=i)
    gate.opened.set()
    drawn = [d for d in settle(jobs) if isinstance(d, Drawn)]
    assert engine.batches == [1, 8, 2]
    assert [d.timings.batch_size for d in drawn] == [1] + [8] * 8 + [2] * 2
    assert all(d.timings.queue_ms >= 0 and d.timings.engine_ms > 0 for d in drawn)


def test_a_request_of_several_is_one_batch_at_once(make: Make) -> None:
    engine = FakeEngine()
    settle(submit(make(engine), 8))
    assert engine.batches == [8]


def test_idle_workers_share_the_queue(make: Make) -> None:
    gate = Gate()
    engine = FakeEngine(before=gate, workers=2)
    batcher = make(engine)
    gate.close()
    while batcher._idle < 2:
        time.sleep(0.001)
    jobs = submit(batcher, 6)
    gate.wait_for_call()
    gate.wait_for_call()
    gate.opened.set()
    settle(jobs)
    assert sorted(engine.batches) == [3, 3]


def test_each_row_gets_its_own_picture(make: Make) -> None:
    engine = FakeEngine(workers=2)
    ids, noise = rows(16)
    drawn = settle(submit(make(engine), 16))
    expected = FakeEngine(buckets=(16,))(ids, noise)
    for one, pixels in zip(drawn, expected, strict=True):
        assert isinstance(one, Drawn)
        np.testing.assert_array_equal(one.pixels, pixels)


def test_keys_take_turns(make: Make) -> None:
    gate = Gate()
    batcher = make(FakeEngine(before=gate, buckets=(1, 2, 4)))
    jobs = held(gate, batcher)
    grid = [job for i in range(3) for job in submit(batcher, 8, key="grid", first=8 * i)]
    typists = [job for i in range(3) for job in submit(batcher, 1, key=f"typist {i}", first=i)]
    done: list[str] = []
    for job in grid + typists:
        job.drawn.add_done_callback(lambda _, key=job.key: done.append(key))
    gate.opened.set()
    settle(jobs + grid + typists)
    assert sorted(done[:4]) == ["grid", "typist 0", "typist 1", "typist 2"]


def test_a_long_line_leaves_room_for_others(make: Make) -> None:
    gate = Gate()
    batcher = make(FakeEngine(before=gate), queue_limit=32)
    jobs = held(gate, batcher)
    jobs += submit(batcher, 16, key="grid")
    with pytest.raises(ServiceBusy, match="queue of 32 pictures has no room for 16") as caught:
        submit(batcher, 16, key="grid")
    assert caught.value.reason == "queue"
    jobs += submit(batcher, 8, key="typist")
    gate.opened.set()
    assert all(isinstance(result, Drawn) for result in settle(jobs))


def test_a_bad_row_fails_alone(make: Make) -> None:
    gate = Gate()
    batcher = make(FakeEngine(before=gate))
    holder = held(gate, batcher)
    good = submit(batcher, 2)
    bad = submit(batcher, 1, first=POISON)
    more = submit(batcher, 2, first=3)
    gate.opened.set()
    assert all(isinstance(result, Drawn) for result in settle(holder + good + more))
    assert isinstance(settle(bad)[0], ValueError)
    assert batcher.ready


def test_a_broken_engine_fails_everybody_and_is_opened_anew(make: Make) -> None:
    gate = Gate()
    reopening = threading.Semaphore(0)
    attempts: list[int] = []
    fresh = FakeEngine()

    def reopen() -> FakeEngine:
        attempts.append(1)
        assert reopening.acquire(timeout=20)
        if len(attempts) == 1:
            raise OSError("no device")
        return fresh

    batcher = make(FakeEngine(before=gate), reopen=reopen)
    jobs = held(gate, batcher)
    jobs += submit(batcher, 3)
    jobs += submit(batcher, 9, key="b")
    gate.fault = True
    gate.opened.set()
    results = settle(jobs)
    assert [type(result) for result in results] == [ServiceUnavailable] * 13
    assert "opened anew" in str(results[0])
    assert not batcher.ready
    with pytest.raises(ServiceUnavailable, match="opened anew"):
        submit(batcher, 1)
    reopening.release(2)
    while not batcher.ready:
        time.sleep(0.001)
    assert len(attempts) == 2
    fresh.batches.clear()
    assert isinstance(settle(submit(batcher, 1))[0], Drawn)
    assert fresh.batches == [1]


def test_a_stop_does_not_wait_for_an_engine_that_is_opened_anew(make: Make) -> None:
    gate, opening, leave = Gate(), threading.Event(), threading.Event()

    def reopen() -> FakeEngine:
        opening.set()
        assert leave.wait(60)
        return FakeEngine()

    batcher = make(FakeEngine(before=gate), reopen=reopen)
    gate.fault = True
    (failed,) = settle(submit(batcher, 1))
    assert isinstance(failed, ServiceUnavailable)
    assert opening.wait(20)
    stopping = threading.Thread(target=batcher.stop)
    stopping.start()
    stopping.join(20)
    assert not stopping.is_alive()
    leave.set()


def test_pixels_of_a_wrong_shape_are_a_fault_and_not_a_hang(make: Make) -> None:
    class Short(FakeEngine):
        rows = 8

        def __call__(
            self, input_ids: NDArray[np.int64], noise: NDArray[np.float32]
        ) -> NDArray[np.uint8]:
            return super().__call__(input_ids, noise)[: self.rows]

    engine = Short()
    batcher = make(engine, reopen=FakeEngine)
    engine.rows = 0
    results = settle(submit(batcher, 2))
    assert [type(result) for result in results] == [ServiceUnavailable] * 2


def test_a_dropped_job_is_never_drawn(make: Make) -> None:
    gate = Gate()
    engine = FakeEngine(before=gate)
    batcher = make(engine)
    first = held(gate, batcher)
    left, kept = submit(batcher, 2), submit(batcher, 1)
    assert batcher.drop([*left, *first]) == 2, "what an engine has begun is not dropped"
    assert batcher.queued == 1
    gate.opened.set()
    settle(first + kept)
    assert engine.batches == [1, 1]
    assert all(job.drawn.cancelled() for job in left)


def test_a_job_without_inputs_holds_up_nobody(make: Make) -> None:
    engine = FakeEngine()
    batcher = make(engine)
    slow = batcher.admit("slow", 2, LONG_S)
    settle(submit(batcher, 1, key="quick"))
    assert engine.batches == [1]
    batcher.supply(slow, *rows(2))
    assert all(isinstance(result, Drawn) for result in settle(slow))


def test_keys_take_turns_also_one_picture_at_a_time() -> None:
    lines, ready = Lines(), np.zeros(1, np.float32)
    lines.add([Job("grid", LONG_S, noise=ready) for _ in range(3)])
    lines.add([Job("typist", LONG_S, noise=ready)])
    turns = []
    while lines:
        (job,) = lines.first(1)
        lines.take([job])
        turns.append(job.key)
    assert turns == ["grid", "typist", "grid", "grid"]


def test_the_predicted_wait_counts_workers_and_what_is_overdue(make: Make) -> None:
    gate = Gate()
    batcher = make(FakeEngine(before=gate, workers=2))
    jobs = held(gate, batcher) + held(gate, batcher)
    for size, seconds in ((1, 100.0), (8, 400.0)):
        for _ in range(100):
            batcher.device.times.add(size, seconds)
    thread, call = next(iter(batcher.calls().items()))
    batcher._running[thread] = replace(call, began=call.began - 130)  # by 30 s
    assert batcher._predict("a", 16) == pytest.approx(30 + 400, abs=5)  # 8 for each worker
    gate.opened.set()
    settle(jobs)


def test_the_predicted_wait_follows_the_measured_times(make: Make) -> None:
    gate = Gate()
    batcher = make(FakeEngine(before=gate))
    holder = held(gate, batcher)
    times = batcher.device.times
    for size, seconds in ((1, 100.0), (2, 200.0), (4, 300.0), (8, 400.0)):
        for _ in range(100):
            times.add(size, seconds)
    assert batcher._predict("a", 1) == pytest.approx(200, abs=5)  # the rest of one, then one
    assert batcher._predict("a", 3) == pytest.approx(400, abs=5)  # 3 in a bucket of 4
    assert batcher._predict("a", 16) == pytest.approx(900, abs=5)  # two full batches
    jobs = submit(batcher, 16, key="grid", deadline_s=1000)
    assert batcher._predict("a", 1) == pytest.approx(300, abs=5)  # beside one of the grid's
    assert batcher._predict("grid", 1) == pytest.approx(1300, abs=5)  # after all of its own
    batcher.drop(jobs)
    gate.opened.set()
    settle(holder)


def test_what_would_be_late_is_refused_at_once(make: Make) -> None:
    gate = Gate()
    engine = FakeEngine(before=gate)
    batcher = make(engine)
    holder = held(gate, batcher)
    for _ in range(100):
        batcher.device.times.add(1, 100.0)
    with pytest.raises(ServiceBusy, match=r"predicted wait of .* ms is beyond") as caught:
        submit(batcher, 1, deadline_s=50)
    assert caught.value.reason == "deadline"
    assert caught.value.wait_s == pytest.approx(200, abs=5)
    assert caught.value.retry_after_s == pytest.approx(150, abs=5)
    assert batcher.queued == 0
    gate.opened.set()
    settle(holder)


def test_a_deadline_that_passes_in_the_queue_is_told_and_not_drawn(make: Make) -> None:
    gate = Gate()
    engine = FakeEngine(before=gate)
    batcher = make(engine)
    holder = held(gate, batcher)
    late, kept = submit(batcher, 2, deadline_s=0.5), submit(batcher, 1)
    time.sleep(0.6)
    gate.opened.set()
    settle(holder + kept)
    results = settle(late)
    assert [type(result) for result in results] == [ServiceBusy] * 2
    assert isinstance(results[0], ServiceBusy)
    assert results[0].reason == "expired"
    assert engine.batches == [1, 1]


def test_a_stall_that_lasts_beyond_thousands_of_deadlines_is_survived(make: Make) -> None:
    gate = Gate()
    batcher = make(FakeEngine(before=gate), queue_limit=40_000)
    holder = held(gate, batcher)
    late = batcher.admit("a", 12_000, LONG_S)
    for job in late:
        job.due = 0.0
    batcher.supply(late, *rows(len(late)))
    gate.opened.set()
    settle(holder)
    assert {type(result) for result in settle(late)} == {ServiceBusy}
    assert isinstance(settle(submit(batcher, 1))[0], Drawn)


def test_a_row_that_hangs_after_others_were_drawn_singly_takes_nothing_with_it(make: Make) -> None:
    hang, hanging = threading.Event(), threading.Event()

    def before(ids: NDArray[np.int64]) -> None:
        if len(ids) == 3:
            raise ValueError("not together")
        if (ids == 1).any():
            hanging.set()
            assert hang.wait(20)

    batcher = make(FakeEngine(before=before), reopen=FakeEngine)
    jobs = submit(batcher, 3)
    assert hanging.wait(20)
    waiting = submit(batcher, 1, key="b", first=7)
    ((thread, call),) = batcher.calls().items()
    batcher.give_up(thread, call)
    kinds = [type(result) for result in settle(jobs)]
    assert kinds == [Drawn, ServiceUnavailable, ServiceUnavailable]
    assert isinstance(settle(waiting)[0], ServiceUnavailable)
    while not batcher.ready:
        time.sleep(0.001)
    hang.set()
    assert isinstance(settle(submit(batcher, 1))[0], Drawn)


def test_a_call_that_is_done_is_not_given_up(make: Make) -> None:
    gate = Gate()
    batcher = make(FakeEngine(before=gate))
    holder = held(gate, batcher)
    ((thread, call),) = batcher.calls().items()
    gate.opened.set()
    settle(holder)
    batcher._running[thread] = call  # as in the moment between result and end
    batcher.give_up(thread, call)
    assert batcher.ready
    assert not batcher._given_up


def test_a_short_queue_is_drawn_in_the_largest_batch_that_is_in_time(make: Make) -> None:
    gate = Gate()
    engine = FakeEngine(before=gate)
    batcher = make(engine)
    holder = held(gate, batcher)
    urgent = submit(batcher, 1, key="urgent", deadline_s=LONG_S)
    rest = submit(batcher, 6, key="rest", deadline_s=1000)
    for size, seconds in ((2, 30.0), (4, 100.0), (8, 300.0)):
        for _ in range(100):
            batcher.device.times.add(size, seconds)
    gate.opened.set()
    settle(holder + urgent + rest)
    assert engine.batches == [1, 2, 5]


def test_stop_fails_what_waits_and_finishes_what_runs(make: Make) -> None:
    gate = Gate()
    batcher = make(FakeEngine(before=gate))
    running = held(gate, batcher)
    waiting = submit(batcher, 2)
    stopping = threading.Thread(target=batcher.stop)
    stopping.start()
    assert [type(result) for result in settle(waiting)] == [ServiceUnavailable] * 2
    assert not batcher.ready
    gate.opened.set()
    stopping.join()
    assert isinstance(settle(running)[0], Drawn)
    with pytest.raises(ServiceUnavailable, match="stopping"):
        submit(batcher, 1)
    assert not any(thread.name.startswith("engine-") for thread in threading.enumerate())
