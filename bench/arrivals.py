"""When requests arrive."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def poisson(per_second: float, count: int, *, seed: int = 0) -> NDArray[np.float64]:
    """Draw the seconds from the start at which `count` independent requests arrive, ascending.

    The gaps are exponential with mean 1 / per_second, as they are among many users who know
    nothing of each other.
    """
    gaps = np.random.default_rng(seed).exponential(1 / per_second, count)
    return np.cumsum(gaps)
