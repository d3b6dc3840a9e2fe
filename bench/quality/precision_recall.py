"""Precision and recall of generated features (Kynkäänniemi et al., 2019)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sidestep.errors import InvalidData

NEIGHBOURS = 3  # k of the paper
_BLOCK = 1024  # rows of distances that are in memory at once

Features = NDArray[np.float32]


def precision_recall(
    real: Features, generated: Features, *, k: int = NEIGHBOURS
) -> tuple[float, float]:
    """Shares of generated features within the real ones' manifold, and of real within theirs.

    A manifold is the union of balls around its features [N, D], each as large as the distance to
    its k-th nearest neighbour. Raises InvalidData if a set has no more than k rows.
    """
    fewest = min(len(real), len(generated))
    if fewest <= k:
        raise InvalidData(f"{fewest} pictures have no {k}-th neighbours; take at least {k + 1}")
    return _inside(generated, real, k), _inside(real, generated, k)


def _inside(points: Features, manifold: Features, k: int) -> float:
    """Share of `points` that lie in some ball of the manifold."""
    radii = np.concatenate([  # the nearest neighbour of each is itself
        np.partition(block, k, axis=1)[:, k] for block in _distances(manifold, manifold)
    ])  # fmt: skip
    inside = [(block <= radii).any(axis=1) for block in _distances(points, manifold)]
    return float(np.concatenate(inside).mean())


def _distances(rows: Features, columns: Features) -> Iterator[NDArray[np.float64]]:
    """Yield squared Euclidean distances, some rows at a time."""
    right = columns.astype(np.float64)
    lengths = np.square(right).sum(axis=1)
    for start in range(0, len(rows), _BLOCK):
        left = rows[start : start + _BLOCK].astype(np.float64)
        squares = np.square(left).sum(axis=1)[:, None] + lengths - 2 * left @ right.T
        yield squares.clip(min=0)
