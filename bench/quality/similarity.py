"""How near pictures are to texts and to each other; all features [N, D] are unit vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]


def clip_score(pictures: Features, texts: Features) -> float:
    """Mean cosine of each picture with its own text (Hessel et al., 2021, without their 2.5)."""
    return float((pictures * texts).sum(axis=1).mean())


def rank_of_own(pictures: Features, names: Features, own: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count for each picture the names that fit it better than its own, `names[own[i]]`.

    0 means that its own name fits best.
    """
    scores = pictures @ names.T
    mine = scores[np.arange(len(own)), own]
    ranks: NDArray[np.int64] = (scores > mine[:, None]).sum(axis=1)
    return ranks


def mean_pairwise_distance(features: Features) -> float:
    """Mean Euclidean distance of all pairs of two or more rows."""
    cosines = features.astype(np.float64) @ features.T.astype(np.float64)
    upper = cosines[np.triu_indices(len(features), k=1)]
    return float(np.sqrt((2 - 2 * upper).clip(min=0)).mean())


def nearest(points: Features, among: Features) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the nearest row of `among` to each point: indices and Euclidean distances."""
    cosines = points.astype(np.float64) @ among.T.astype(np.float64)
    index: NDArray[np.int64] = cosines.argmax(axis=1)
    best = cosines[np.arange(len(points)), index]
    return index, np.sqrt((2 - 2 * best).clip(min=0))
