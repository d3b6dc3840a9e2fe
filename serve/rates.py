"""Pictures a minute for each key and address: token buckets in bounded memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from sidestep.errors import ServiceBusy
from sidestep.requests import MAX_COUNT

MOST_CALLERS = 10_000


class Rates:
    """A bucket for each caller, which fills by `per_minute` and holds at most a minute's worth.

    At least one request's worth, so that nothing is refused for ever. A caller who has not asked
    for long is forgotten, and so is the one who asked least lately when there are too many: a
    forgotten bucket is full again.
    """

    def __init__(
        self, per_minute: int, what: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Grant `per_minute` pictures to each; 0 grants all. `what` names a caller in messages."""
        self._per_s = per_minute / 60
        self._holds = max(per_minute, MAX_COUNT)
        self._what, self._clock = what, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # level, when

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, caller: str, count: int) -> None:
        """Take `count` pictures out of the caller's bucket; raises ServiceBusy if it lacks some."""
        if not self._per_s:
            return
        now = self._clock()
        level, at = self._buckets.pop(caller, (float(self._holds), now))
        level = min(self._holds, level + (now - at) * self._per_s)
        missing = count - level
        self._buckets[caller] = (level if missing > 0 else level - count, now)
        if len(self._buckets) > MOST_CALLERS:
            self._buckets.popitem(last=False)
        if missing > 0:
            message = (
                f"this {self._what} may draw {60 * self._per_s:.0f} pictures a minute; "
                "try again later"
            )
            raise ServiceBusy(message, reason="rate", retry_after_s=missing / self._per_s)

    def give_back(self, caller: str, count: int) -> None:
        """Put back what was taken for pictures that were not drawn."""
        if caller in self._buckets:
            level, at = self._buckets[caller]
            self._buckets[caller] = (min(self._holds, level + count), at)
