"""The number formats of a training run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from sidestep.engines.pytorch import forbid_tf32


@dataclass(frozen=True)
class Precision:
    """How weights are kept, what passes compute in, and what Adam then needs.

    weights: of the networks and their optimizers; text: of the cached embeddings, exact where
    autocast rounds them to it anyway; autocast: of matrix products and convolutions, None for
    `weights`; scaled: losses are scaled against underflow of fp16 gradients; eps: Adam's;
    clip: bound of each of the generator's gradients, as in the authors' fp16; largest: of the fake
    score's, whose squares Adam keeps: fp16 ends at 65,504
    """

    weights: torch.dtype
    text: torch.dtype
    autocast: torch.dtype | None = None
    scaled: bool = False
    eps: float = 1e-8
    clip: float | None = None
    largest: float | None = None


PRECISIONS = {
    "fp32": Precision(torch.float32, torch.float32),
    "bf16": Precision(torch.float32, torch.bfloat16, autocast=torch.bfloat16),
    "fp16": Precision(torch.float32, torch.float16, autocast=torch.float16, scaled=True),
    "fp16-weights": Precision(torch.float16, torch.float16, eps=1e-6, clip=1.0, largest=255.0),
}


@contextmanager
def exact_fp32() -> Iterator[None]:
    """Compute fp32 products and convolutions on GPUs in fp32 within this block, not in TF32."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    forbid_tf32()
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
