"""The Fréchet distance between two sets of features (Heusel et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidestep.errors import InvalidData


@dataclass(frozen=True)
class Statistics:
    """Mean [D] and covariance [D, D] of `count` rows of features, in float64."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    count: int

    @classmethod
    def of(cls, features: NDArray[Any]) -> Statistics:
        """Take them from features [N, D]; raises InvalidData for fewer than two rows."""
        if len(features) < 2:
            raise InvalidData(f"{len(features)} pictures have no covariance; take at least 2")
        rows = features.astype(np.float64)
        return cls(
            rows.mean(axis=0), np.cov(rows, rowvar=False).reshape(rows.shape[1], -1), len(rows)
        )


def frechet_distance(one: Statistics, other: Statistics) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2), for Gaussians of these moments.

    The last trace is that of (C1^1/2 C2 C1^1/2)^1/2, which is symmetric, so that no complex numbers
    arise where a covariance is singular, as it is of fewer pictures than features.
    """
    root = _root(one.covariance)
    values = np.linalg.eigvalsh(root @ other.covariance @ root)
    cross = np.sqrt(values.clip(min=0)).sum()
    apart = np.square(one.mean - other.mean).sum()
    distance = apart + np.trace(one.covariance) + np.trace(other.covariance) - 2 * cross
    return float(max(distance, 0.0))


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix)
    root: NDArray[np.float64] = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    return root
