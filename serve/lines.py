"""Who is next: one line for each key, served in turn, so that a long line delays only itself."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice, takewhile, zip_longest

import numpy as np
from numpy.typing import NDArray

from sidestep.requests import Timings


@dataclass(frozen=True)
class Drawn:
    """Pixels [H, W, 3] of one picture and the time it took so far."""

    pixels: NDArray[np.uint8]
    timings: Timings
    at: float = field(default_factory=time.perf_counter)


@dataclass(eq=False)
class Job:
    """One picture in the queue.

    key: whose line it stands in
    due: when its pixels are wanted, as `time.perf_counter` tells time
    ids [L], noise [4, h, w]: absent until they are supplied
    """

    key: str
    due: float
    arrived: float = field(default_factory=time.perf_counter)
    ids: NDArray[np.int64] | None = None
    noise: NDArray[np.float32] | None = None
    drawn: Future[Drawn] = field(default_factory=Future)


class Lines:
    """The queue: jobs by key, and round robin over the keys."""

    def __init__(self) -> None:
        """Make an empty queue."""
        self._lines: dict[str, deque[Job]] = {}  # in the order of their turns

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __iter__(self) -> Iterator[Job]:
        for line in self._lines.values():
            yield from line

    def length(self, key: str) -> int:
        """Count the jobs of one key."""
        return len(self._lines.get(key, ()))

    def until(self, key: str, count: int) -> int:
        """Count the pictures drawn until `count` more of `key` are, if nobody else comes."""
        place = self.length(key) + count
        others = (min(len(line), place) for name, line in self._lines.items() if name != key)
        return place + sum(others)

    def add(self, jobs: Iterable[Job]) -> None:
        """Put jobs at the ends of their lines."""
        for job in jobs:
            self._lines.setdefault(job.key, deque()).append(job)

    def first(self, count: int) -> list[Job]:
        """List up to `count` jobs whose turn it is, and leave them; jobs without inputs wait."""
        supplied = (takewhile(_supplied, line) for line in self._lines.values())
        rounds = zip_longest(*supplied)
        return list(islice((job for jobs in rounds for job in jobs if job), count))

    def take(self, jobs: Iterable[Job]) -> None:
        """Take jobs out, and put their keys last; a job that is not here is left alone."""
        for job in jobs:
            line = self._lines.pop(job.key, deque())
            if job in line:
                line.remove(job)
            if line:
                self._lines[job.key] = line

    def clear(self) -> list[Job]:
        """Take all jobs out."""
        left = list(self)
        self._lines.clear()
        return left


def _supplied(job: Job) -> bool:
    return job.noise is not None
