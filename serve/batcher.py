"""Pictures waiting for an engine -> batches, greedily and continuously.

One bounded queue of single pictures, `spec.workers` threads that each call the engine. An idle
thread takes what is queued at once; nobody waits for a window to fill. While all threads are
busy the queue grows, and so does the next batch: load makes the batches, not a timer.

B batch  L tokens  4 x h x w latents  H x W pixels
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sidestep.engines.contract import Engine
from sidestep.errors import ServiceBusy, ServiceUnavailable
from sidestep.requests import Timings

logger = logging.getLogger("sidestep.serve")


@dataclass(frozen=True)
class Drawn:
    """Pixels [H, W, 3] of one picture and the time it took so far."""

    pixels: NDArray[np.uint8]
    timings: Timings


@dataclass(eq=False)
class _Job:
    """One picture to draw: ids [L], noise [4, h, w], and who waits for it."""

    ids: NDArray[np.int64]
    noise: NDArray[np.float32]
    future: asyncio.Future[Drawn]
    arrived: float = field(default_factory=time.perf_counter)


class Batcher:
    """Feeds an engine from one queue; `submit` from an event loop, draw on threads."""

    def __init__(self, engine: Engine, *, queue_limit: int) -> None:
        """Make a batcher for `engine` with room for `queue_limit` waiting pictures."""
        self._engine = engine
        self._limit = queue_limit
        self._jobs: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._idle = 0
        self._stopping = False
        self._threads: list[threading.Thread] = []
        self._engine_s = 0.0  # mean seconds per picture of the latest batches

    def start(self) -> None:
        """Start one thread per engine worker."""
        for number in range(self._engine.spec.workers):
            thread = threading.Thread(target=self._work, name=f"engine-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Fail what is queued with ServiceUnavailable, finish running batches, join the threads."""
        with self._wake:
            self._stopping = True
            left = list(self._jobs)
            self._jobs.clear()
            self._wake.notify_all()
        for job in left:
            _settle(job, ServiceUnavailable("the service is stopping; try again later"))
        for thread in self._threads:
            thread.join()

    @property
    def ready(self) -> bool:
        """Whether jobs are taken."""
        return bool(self._threads) and not self._stopping

    @property
    def queued(self) -> int:
        """How many pictures wait, dropped ones included until a thread meets them."""
        return len(self._jobs)

    def submit(
        self, ids: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> list[asyncio.Future[Drawn]]:
        """Queue the rows of ids [B, L] and noise [B, 4, h, w] together, all or none.

        Cancelling a future drops its picture, if no thread has taken it yet.
        Raises ServiceBusy if they do not fit and ServiceUnavailable when stopping.
        """
        loop = asyncio.get_running_loop()
        jobs = [_Job(i, n, loop.create_future()) for i, n in zip(ids, noise, strict=True)]
        with self._wake:
            if not self.ready:
                raise ServiceUnavailable("the service is stopping; try again later")
            if len(self._jobs) + len(jobs) > self._limit:
                self._jobs = deque(job for job in self._jobs if not job.future.cancelled())
            if len(self._jobs) + len(jobs) > self._limit:
                raise ServiceBusy(
                    f"the queue of {self._limit} pictures is full; try again later",
                    retry_after_s=self._engine_s * len(self._jobs) / len(self._threads),
                )
            self._jobs.extend(jobs)
            self._wake.notify(len(jobs))
        return [job.future for job in jobs]

    def _work(self) -> None:
        """Draw batches until the batcher stops (runs on each engine thread)."""
        while jobs := self._take():
            for job, result in zip(jobs, self._draw(jobs), strict=True):
                _settle(job, result)

    def _take(self) -> list[_Job]:
        """Wait for jobs and take this thread's share of them; none when stopping.

        Idle threads share the queue: the first of two takes half of it, not all.
        """
        with self._wake:
            self._idle += 1
            try:
                while not self._stopping:
                    share = -(-len(self._jobs) // self._idle)
                    jobs = self._pop(min(share, self._engine.spec.max_batch))
                    if jobs:
                        return jobs
                    self._wake.wait()
                return []
            finally:
                self._idle -= 1

    def _pop(self, count: int) -> list[_Job]:
        """Take up to `count` jobs that somebody still waits for, oldest first."""
        jobs: list[_Job] = []
        while self._jobs and len(jobs) < count:
            job = self._jobs.popleft()
            if not job.future.cancelled():
                jobs.append(job)
        return jobs

    def _draw(self, jobs: Sequence[_Job]) -> list[Drawn | Exception]:
        """Call the engine once for all jobs; if that fails, once for each.

        So one bad row fails alone.
        """
        began = time.perf_counter()
        try:
            pixels = self._engine(
                np.stack([job.ids for job in jobs]), np.stack([job.noise for job in jobs])
            )  # [B, H, W, 3]
            engine_s = time.perf_counter() - began
            self._engine_s += 0.2 * (engine_s / len(jobs) - self._engine_s)
            return [
                Drawn(image, Timings(1e3 * (began - job.arrived), 1e3 * engine_s, 0.0, len(jobs)))
                for job, image in zip(jobs, pixels, strict=True)
            ]
        except Exception as error:
            if len(jobs) == 1:
                return [error]
            logger.warning("a batch of %d failed (%r); drawing its rows singly", len(jobs), error)
            return [result for job in jobs for result in self._draw([job])]


def _settle(job: _Job, result: Drawn | Exception) -> None:
    """Hand a result to the job's event loop, from any thread."""

    def hand_over() -> None:
        if job.future.done():  # its waiter left meanwhile
            return
        if isinstance(result, Exception):
            job.future.set_exception(result)
        else:
            job.future.set_result(result)

    # A closed loop raises RuntimeError: nobody waits any more.
    with contextlib.suppress(RuntimeError):
        job.future.get_loop().call_soon_threadsafe(hand_over)
