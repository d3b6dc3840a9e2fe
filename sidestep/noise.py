"""A seed -> latent noise, the same on every device and engine.

Philox 4x32-10 (Salmon et al., 2011) with the Box-Muller transform, laid out as `torch.randn` on
CUDA lays it out: element i of a tensor is the first normal of the block with counter
(0, 0, i, 0) and the seed as key. So a seed means the same noise here, in diffusers on a GPU and
in the authors' code. That holds while CUDA gives each thread one element, up to about 220,000
elements on an A100 (a latent of 4x64x64 has 16,384).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 10
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox_4x32(
    counter: NDArray[np.uint64], key: tuple[int, int]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the first two 32-bit words of every Philox block (0, 0, counter, 0) under `key`."""
    c0 = np.zeros_like(counter)
    c1, c2, c3 = c0, counter & _LOW, c0
    k0, k1 = np.uint64(key[0]), np.uint64(key[1])
    for _ in range(_ROUNDS):
        p0, p1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (p1 >> _HALF) ^ c1 ^ k0, p1 & _LOW, (p0 >> _HALF) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _KEY_STEPS[0]) & _LOW, (k1 + _KEY_STEPS[1]) & _LOW
    return c0, c1


def standard_normal(seed: int, count: int) -> NDArray[np.float32]:
    """Draw `count` standard normals from one seed (0 to 2^64 - 1), as CUDA's `torch.randn`."""
    x, y = philox_4x32(np.arange(count, dtype=np.uint64), (seed & 0xFFFFFFFF, seed >> 32))
    unit = np.float32(2.0**-32)
    u = x.astype(np.float32) * unit + unit / np.float32(2)
    v = y.astype(np.float32) * (unit * np.float32(2 * math.pi)) + unit * np.float32(math.pi)
    normals: NDArray[np.float32] = np.sqrt(np.float32(-2) * np.log(u)) * np.sin(v)
    return normals


def latent_noise(seeds: Sequence[int], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw one noise of `shape`, usually (4, h, w), per seed: [B, 4, h, w].

    Several steps' noises (N, 4, h, w) follow each other in the seed's stream, so the first is the
    one-step noise of that seed.
    """
    count = math.prod(shape)
    return np.stack([standard_normal(seed, count).reshape(shape) for seed in seeds])
