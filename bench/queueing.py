"""What waiting alone costs: a queue's best answer times, without any service around it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence


def floor_ms(
    arrivals: Sequence[float],
    call_s: Callable[[int], float],
    *,
    count: int = 1,
    workers: int = 1,
    max_batch: int = 1,
) -> list[float]:
    """Simulate the answer times of requests for `count` pictures each, in milliseconds.

    Workers that are free take what waits, up to `max_batch` pictures, and need `call_s(batch)`.
    With one picture at a time and a fixed `call_s` that is the M/D/c queue.
    """
    waiting = [(due, request) for request, due in enumerate(arrivals) for _ in range(count)]
    ended = [0.0] * len(arrivals)
    free = [0.0] * workers
    taken = 0
    while taken < len(waiting):
        start = max(heapq.heappop(free), waiting[taken][0])
        batch = [one for one in waiting[taken : taken + max_batch] if one[0] <= start]
        end = start + call_s(len(batch))
        heapq.heappush(free, end)
        for _, request in batch:
            ended[request] = max(ended[request], end)
        taken += len(batch)
    return [1e3 * (end - due) for end, due in zip(ended, arrivals, strict=True)]
