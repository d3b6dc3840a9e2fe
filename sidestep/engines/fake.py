"""An engine without weights, for testing what calls one. Public API."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sidestep.engines.contract import GeneratorSpec


class FakeEngine:
    """Draws each row's noise as colours, tinted by its prompt's ids; pure and fast.

    `delay_s` is slept per call; `before` is called with the ids and may raise, to test faults;
    `batches` records the size of every call.
    """

    def __init__(
        self,
        *,
        tokens: int = 24,
        buckets: tuple[int, ...] = (1, 2, 4, 8),
        workers: int = 1,
        delay_s: float = 0.0,
        before: Callable[[NDArray[np.int64]], None] | None = None,
    ) -> None:
        """Make an engine of 16x16 latents and 32x32 pictures."""
        self.spec = GeneratorSpec("fake", "0" * 64, (4, 16, 16), (32, 32), tokens, buckets, workers)
        self.batches: list[int] = []
        self._delay_s = delay_s
        self._before = before

    def __call__(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """Map ids [B, L] and noise [B, 4, 16, 16] to pictures [B, 32, 32, 3]."""
        self.batches.append(len(input_ids))
        if self._before:
            self._before(input_ids)
        time.sleep(self._delay_s)
        tint = (input_ids.sum(axis=1) % 64).astype(np.float32)
        colours = noise[:, :3] * 48 + 96 + tint[:, None, None, None]  # [B, 3, 16, 16]
        pixels = np.clip(colours, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
        pictures: NDArray[np.uint8] = pixels.repeat(2, axis=1).repeat(2, axis=2)
        return pictures  # [B, 32, 32, 3]
