"""What every engine is: a pure function from (token ids, noise) to pixels.

B batch  L tokens  4 x h x w latents  H x W pixels
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from sidestep.model_folder import ModelFolder
from sidestep.schedule import noise_shape

# How far pixels may be from fp32 PyTorch's, in levels of 255, by precision.
# bf16 has three decimal digits: on a model of 64x64 emoji OpenVINO was off by up to 18 levels and
# 48.7 dB on an AMD EPYC, by 25 and 47.5 dB with AMX. On that of 128x128 it is off by 44, and fails.
LEVELS = {"fp32": 1, "fp16": 8, "bf16": 32}


def precision_of(engine: str) -> str:
    """Read the precision out of an engine's name, such as onnx-cuda-fp16; fp32 where none is."""
    return next((precision for precision in LEVELS if precision in engine.split("-")), "fp32")


@dataclass(frozen=True)
class GeneratorSpec:
    """The shapes and limits that a caller of an engine needs to know.

    name: the engine's name, for recipes and headers; it ends in -small with the small decoder
    weights: hash of the weights the engine was compiled from
    latent_shape: (4, h, w); image_size: (H, W) in pixels; tokens: L
    buckets: batch sizes the engine is fastest at, ascending; the last is the largest it takes
    steps: evaluations of the network per picture
    workers: how many calls may run at the same time (one per device; on a CPU one per core)
    """

    name: str
    weights: str
    latent_shape: tuple[int, int, int]
    image_size: tuple[int, int]
    tokens: int
    buckets: tuple[int, ...] = (1, 2, 4, 8)
    workers: int = 1
    steps: int = 1

    @classmethod
    def of(cls, folder: ModelFolder, name: str, **limits: Any) -> Self:
        """Take the shapes of a model; `limits` are buckets and workers where they differ."""
        card = folder.card
        name = name if folder.decoder == "full" else f"{name}-{folder.decoder}"
        shapes = (card.latent_shape, card.image_size, card.tokens)
        return cls(name, card.weights, *shapes, steps=card.steps, **limits)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """What one picture is drawn from: (4, h, w), or (steps, 4, h, w) for several steps."""
        return noise_shape(self.latent_shape, self.steps)

    @property
    def max_batch(self) -> int:
        """The largest batch one call takes."""
        return self.buckets[-1]


class Engine(Protocol):
    """A compiled generator; the same row gives the same picture in any batch.

    Several steps are inside it, and take noise [B, steps, 4, h, w]. It may be called from several
    threads at once.
    """

    spec: GeneratorSpec

    def __call__(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """Map ids [B, L] and noise [B, 4, h, w] to pictures [B, H, W, 3]; 1 <= B <= max_batch."""
        ...
