"""An engine without weights, for testing what calls one. Public API."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sidestep.engines.contract import GeneratorSpec
from sidestep.model_folder import ModelCard


class FakeEngine:
    """Draws each row's noise as colours, tinted by its prompt's ids; pure and fast.

    `delay_s` is slept per call, or what it returns for a batch's size; `before` is called with the
    ids and may raise, to test faults; `batches` records the size of every call.
    """

    def __init__(
        self,
        *,
        tokens: int = 24,
        buckets: tuple[int, ...] = (1, 2, 4, 8),
        workers: int = 1,
        delay_s: float | Callable[[int], float] = 0.0,
        before: Callable[[NDArray[np.int64]], None] | None = None,
    ) -> None:
        """Make an engine of 16x16 latents and 32x32 pictures."""
        self.spec = GeneratorSpec("fake", "0" * 64, (4, 16, 16), (32, 32), tokens, buckets, workers)
        self.batches: list[int] = []
        self._delay_s = delay_s
        self._before = before

    @classmethod
    def like(cls, card: ModelCard) -> Self:
        """Make an engine of a model's shapes and a GPU's speed: 20 + 2n ms for n pictures."""
        engine = cls(tokens=card.tokens, delay_s=gpu_like_s)
        engine.spec = replace(
            engine.spec,
            latent_shape=card.latent_shape,
            image_size=card.image_size,
            steps=card.steps,
        )
        return engine

    def __call__(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """Map ids [B, L] and noise [B, 4, h, w] to pictures [B, H, W, 3]."""
        noise = noise if self.spec.steps == 1 else noise[:, -1]  # of the last of several steps
        self.batches.append(len(input_ids))
        if self._before:
            self._before(input_ids)
        delay_s = self._delay_s
        time.sleep(delay_s(len(input_ids)) if callable(delay_s) else delay_s)
        tint = (input_ids.sum(axis=1) % 64).astype(np.float32)
        colours = noise[:, :3] * 48 + 96 + tint[:, None, None, None]  # [B, 3, h, w]
        pixels = np.clip(colours, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
        height, width = self.spec.image_size
        rows, columns = height // pixels.shape[1], width // pixels.shape[2]
        pictures: NDArray[np.uint8] = pixels.repeat(rows, axis=1).repeat(columns, axis=2)
        return pictures  # [B, H, W, 3]


def gpu_like_s(batch: int) -> float:
    """Return the seconds of a batch where a call costs 20 ms and each picture 2 more."""
    return 0.020 + 0.002 * batch
