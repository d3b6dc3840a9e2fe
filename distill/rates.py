"""Learning rates as functions of the step."""

from __future__ import annotations

import math

from torch.optim import Optimizer


def cosine(step: int, *, peak: float, warmup: int, last: int) -> float:
    """Learning rate of a step counted from 1: linear warm-up, then half a cosine down to 0."""
    if step <= warmup:
        return peak * step / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, last - warmup)))


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Give every parameter group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
