"""Batch sizes that an engine was compiled for: a batch is filled up to the next of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sidestep.errors import InvalidRequest


def bucket_of(buckets: Sequence[int], count: int) -> int:
    """Return the smallest bucket that holds `count` rows; raises InvalidRequest above the last."""
    for bucket in buckets:
        if count <= bucket:
            return bucket
    raise InvalidRequest(
        f"a batch of {count} is above the engine's largest bucket, {buckets[-1]}", field="batch"
    )


def fill(buffer: NDArray[np.generic], rows: NDArray[np.generic]) -> None:
    """Copy rows [B, ...] into a buffer [bucket, ...] and repeat the last to its end.

    A repeated row is a valid input, which zeros need not be; what it draws is thrown away.
    """
    buffer[: len(rows)] = rows
    buffer[len(rows) :] = rows[-1]
