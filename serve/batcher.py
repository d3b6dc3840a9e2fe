"""Pictures waiting for an engine -> batches: greedily, fairly and in time.

`spec.workers` threads call the engine. An idle thread takes what is queued at once; nobody waits
for a window to fill. While all threads are busy the queue grows, and so does the next batch: load
makes the batches, not a timer. What cannot be drawn by its deadline is refused when it is asked
for, not dropped when it is late.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.device import Device
from serve.lines import Drawn, Job, Lines
from sidestep.errors import ServiceBusy, ServiceUnavailable
from sidestep.requests import Timings

logger = logging.getLogger("sidestep.serve")
STOPPING = "the service is stopping; try again later"
BROKEN = "the engine failed and is being opened anew; try again later"
EXPIRED = "the deadline passed in the queue; try again later or allow more time"
LONGEST_PAUSE_S = 30.0
LOOK_EVERY_S = 0.1


@dataclass(frozen=True, eq=False)
class Call:
    """A batch that a thread draws.

    began: as `time.perf_counter` tells time; opened: the device's count then
    """

    began: float
    jobs: Sequence[Job]
    opened: int


class Batcher:
    """Feeds a device from one queue. Every method may be called from any thread."""

    def __init__(self, device: Device, *, queue_limit: int) -> None:
        """Make a batcher with room for `queue_limit` waiting pictures."""
        self.device = device
        self.on_batch: Callable[[int], None] = lambda size: None  # told of every good engine call
        self._limit = queue_limit
        self._lines = Lines()
        self._wake = threading.Condition()
        self._idle = 0
        self._running: dict[int, Call] = {}  # by the thread that draws
        self._given_up: set[int] = set()  # threads whose results nobody waits for
        self._opening: set[int] = set()  # threads that open the engine anew
        self._closed = False  # takes nothing new
        self._stopped = threading.Event()
        self._renewing = threading.Lock()
        self._broken = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Warm the device up, then start one thread per worker; raises what the engine raises."""
        self.device.warm_up()
        for _ in range(self.device.spec.workers):
            self._begin(self._work)

    def stop(self) -> None:
        """Take nothing new, fail what waits, end the threads.

        What waits fails with ServiceUnavailable; a batch under way is finished. A thread that
        opens the engine anew, which nobody needs any more, is not waited for.
        """
        with self._wake:
            self._closed = True
            self._stopped.set()
            left = self._lines.clear()
            self._wake.notify_all()
        _fail(left, ServiceUnavailable(STOPPING))
        for thread in self._threads:
            while thread.is_alive() and thread.ident not in self._given_up | self._opening:
                thread.join(LOOK_EVERY_S)

    @property
    def ready(self) -> bool:
        """Whether jobs are taken."""
        return bool(self._threads) and not self._closed and not self._broken

    @property
    def queued(self) -> int:
        """How many pictures wait."""
        return len(self._lines)

    def admit(self, key: str, count: int, deadline_s: float, *, beside_s: float = 0.0) -> list[Job]:
        """Give `count` pictures their places in the line of `key`, all or none.

        Their inputs follow with `supply`. Of the deadline, `beside_s` is needed elsewhere. Raises
        ServiceBusy with the predicted wait if they do not fit or would be later than `deadline_s`,
        and ServiceUnavailable when nothing is taken.
        """
        with self._wake:
            if not self.ready:
                raise ServiceUnavailable(BROKEN if self._broken else STOPPING)
            wait_s = self._predict(key, count) + beside_s
            # A line may grow to the room that it leaves free, so a newcomer always finds some.
            if self._lines.length(key) + count > self._limit - len(self._lines):
                message = f"the queue of {self._limit} pictures has no room for {count} more"
                raise ServiceBusy(message, reason="queue", retry_after_s=wait_s, wait_s=wait_s)
            if wait_s > deadline_s:
                message = (
                    f"the predicted wait of {1e3 * wait_s:.0f} ms is beyond the deadline; "
                    "try again later or allow more time"
                )
                late_s = wait_s - deadline_s
                raise ServiceBusy(message, reason="deadline", retry_after_s=late_s, wait_s=wait_s)
            due = time.perf_counter() + deadline_s - beside_s
            jobs = [Job(key, due) for _ in range(count)]
            self._lines.add(jobs)
        return jobs

    def supply(
        self, jobs: Sequence[Job], ids: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> None:
        """Hand in the inputs of admitted jobs, ids [B, L] and noise [B, 4, h, w]."""
        with self._wake:
            for job, row, latents in zip(jobs, ids, noise, strict=True):
                job.ids, job.noise = row, latents
            self._wake.notify_all()

    def drop(self, jobs: Iterable[Job]) -> int:
        """Forget the jobs that no thread has taken yet; nobody waits for them; returns how many."""
        with self._wake:
            waiting = [job for job in jobs if job.drawn.cancel()]
            self._lines.take(waiting)
            self._wake.notify_all()
        return len(waiting)

    def _predict(self, key: str, count: int) -> float:
        """Predict the seconds until `count` more pictures of `key` are drawn, from measured times.

        A batch that is overdue by some time is expected to take as long again.
        """
        spec, times, now = self.device.spec, self.device.times, time.perf_counter()
        pictures = -(-self._lines.until(key, count) // spec.workers)  # of each worker
        batches = -(-pictures // spec.max_batch)
        busy_s = [
            abs(times.seconds(len(call.jobs)) - (now - call.began))
            for call in self._running.values()
        ]
        free = len(busy_s) < spec.workers
        first_s = 0.0 if free else min(busy_s)
        last_s = times.seconds(min(pictures, spec.max_batch))
        return first_s + (batches - 1) * times.seconds(spec.max_batch) + last_s

    def calls(self) -> dict[int, Call]:
        """Return the engine calls under way, by thread."""
        with self._wake:
            return dict(self._running)

    def give_up(self, thread: int, call: Call) -> None:
        """Fail a call that hangs and all that wait, and open the engine anew on a new thread.

        The hanging thread cannot be ended; if it ever comes back, its result is ignored. Nothing
        is done if the call has come back already.
        """
        with self._wake:
            if self._running.get(thread) is not call or all(j.drawn.done() for j in call.jobs):
                return
            del self._running[thread]
            self._given_up.add(thread)
        logger.error("an engine call of %d pictures hangs and is given up", len(call.jobs))
        self._break(call.jobs, call.opened)
        self._begin(lambda: self._work_on(call.opened))

    def _begin(self, work: Callable[[], None]) -> None:
        """Start an engine thread."""
        name = f"engine-{len(self._threads)}"
        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work_on(self, opened: int) -> None:
        """Take the place of a thread that hangs."""
        self._renew(opened)
        self._work()

    def _work(self) -> None:
        """Draw batches until the batcher stops (runs on each engine thread)."""
        thread = threading.get_ident()
        while jobs := self._take(thread):
            self._draw(jobs)
            with self._wake:
                self._running.pop(thread, None)
                if thread in self._given_up:  # another has taken this one's place
                    self._given_up.discard(thread)
                    return

    def _take(self, thread: int) -> list[Job]:
        """Wait for jobs and take this thread's share of them; none when stopping."""
        with self._wake:
            self._idle += 1
            try:
                while not self._stopped.is_set():
                    if not self._broken and (jobs := self._next()):
                        call = Call(time.perf_counter(), jobs, self.device.opened)
                        self._running[thread] = call
                        return jobs
                    self._wake.wait()
                return []
            finally:
                self._idle -= 1

    def _next(self) -> list[Job]:
        """Take the next batch out of the queue.

        Idle threads share the queue: the first of two takes half of it, not all.
        """
        spec = self.device.spec
        while True:
            now = time.perf_counter()
            turn = self._lines.first(self._idle * spec.max_batch)
            if not (late := [job for job in turn if job.due < now]):
                break
            self._lines.take(late)
            _fail(late, ServiceBusy(EXPIRED, reason="expired", retry_after_s=1.0))
        jobs = turn[: -(-len(turn) // self._idle)]
        if len(self._lines) <= spec.max_batch:  # else smaller batches would delay all the rest
            jobs = jobs[: self._in_time(jobs, now)]
        self._lines.take(jobs)
        return [job for job in jobs if job.drawn.set_running_or_notify_cancel()]

    def _in_time(self, jobs: Sequence[Job], now: float) -> int:
        """Find the largest batch of the first jobs that meets their deadlines; all if none does."""
        sizes = [len(jobs), *(n for n in reversed(self.device.spec.buckets) if n < len(jobs))]
        for size in sizes:
            end = now + self.device.times.seconds(size)
            if all(end <= job.due for job in jobs[:size]):
                return size
        return len(jobs)

    def _draw(self, jobs: Sequence[Job]) -> None:
        """Call the engine once for all jobs; if it fails and is sound, once for each.

        So one bad row fails alone.
        """
        opened, began = self.device.opened, time.perf_counter()
        try:
            ids = np.stack([job.ids for job in jobs if job.ids is not None])
            noise = np.stack([job.noise for job in jobs if job.noise is not None])
            pixels, engine_s = self.device.draw(ids, noise)
        except Exception as error:
            if self._is_given_up():
                return
            if not self.device.sound():
                self._break(jobs, opened)
                self._renew(opened)
            elif len(jobs) == 1:
                _fail(jobs, error)
            else:
                logger.warning("a batch of %d failed (%r); drawing singly", len(jobs), error)
                for job in jobs:
                    if not self._is_given_up():
                        self._draw([job])
            return
        with self._wake:  # so that nobody gives the call up while its results are handed out
            if self._is_given_up():
                return
            self.on_batch(len(jobs))
            for job, image in zip(jobs, pixels, strict=True):
                queue_ms = 1e3 * (began - job.arrived)
                timings = Timings(queue_ms, 1e3 * engine_s, 0.0, len(jobs))
                job.drawn.set_result(Drawn(image, timings))

    def _is_given_up(self) -> bool:
        """Whether this thread's call was failed as hanging, meanwhile."""
        with self._wake:
            return threading.get_ident() in self._given_up

    def _break(self, jobs: Sequence[Job], opened: int) -> None:
        """Close the door, then fail these jobs and all that wait.

        opened: the count when the failing call began; another thread may have mended it since
        """
        left: list[Job] = []
        with self._wake:
            self._running.pop(threading.get_ident(), None)  # opening takes its time
            if self.device.opened == opened:
                self._broken = True
                left = self._lines.clear()
        _fail([*jobs, *left], ServiceUnavailable(BROKEN))

    def _renew(self, opened: int) -> None:
        """Open the engine anew, trying until it succeeds, all stops or another thread did it."""
        thread, pause_s = threading.get_ident(), 0.1
        self._opening.add(thread)
        with self._renewing:
            while self.device.opened == opened and not self._stopped.is_set():
                try:
                    self.device.renew()
                except Exception as error:
                    logger.error("the engine cannot be opened (%r); trying again", error)
                    self._stopped.wait(pause_s)
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            with self._wake:
                self._broken = False
                self._wake.notify_all()
        self._opening.discard(thread)


def _fail(jobs: Iterable[Job], error: Exception) -> None:
    """Tell those who wait, if they still do and have not been answered."""
    for job in jobs:
        answered = job.drawn.done() and not job.drawn.cancelled()
        if answered or not (job.drawn.running() or job.drawn.set_running_or_notify_cancel()):
            continue
        job.drawn.set_exception(error)
