"""How long something takes, from what it took; one bad moment does not count for much."""

from __future__ import annotations

import time
from collections.abc import Callable

STALL = 4.0  # times the mean; a machine that was suspended tells nothing of its speed
HOLDS_S = 10.0


class MovingMean:
    """A moving mean of seconds that a single stall moves little, and that none holds for ever.

    Who is refused because of a mean is not measured, so a mean that is too high would stay. After
    `HOLDS_S` without a measurement it falls towards the least that was measured, by half in each
    such time.
    """

    def __init__(self, weight: float, clock: Callable[[], float] = time.perf_counter) -> None:
        """Begin with nothing measured; `weight` is that of the newest measurement."""
        self._weight, self._clock = weight, clock
        self._mean: float | None = None
        self._least = self._at = 0.0

    def add(self, seconds: float) -> None:
        """Count one measurement."""
        if self._mean is None:
            self._mean = self._least = seconds
        else:
            mean = self.seconds
            self._mean = mean + self._weight * (min(seconds, STALL * mean) - mean)
            self._least = min(self._least, seconds)
        self._at = self._clock()

    @property
    def seconds(self) -> float:
        """Predict the next one; 0 if nothing was measured."""
        if self._mean is None:
            return 0.0
        halvings = max(0.0, (self._clock() - self._at) / HOLDS_S - 1)
        return float(self._least + (self._mean - self._least) * 0.5**halvings)
