"""Running means of per-picture losses, and how many were not finite, without waiting for a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from distill.processes import current


class Tally:
    """Adds losses up on their device; `drain` reads them over all processes."""

    def __init__(self, *, elements: int) -> None:
        """Take the number of elements that a loss sums over, to show means per element."""
        self._elements = elements
        self._sums: dict[str, Tensor] = {}  # name -> [sum of finite losses, finite, not finite]

    def add(self, name: str, losses: Tensor, *, elements: int | None = None) -> None:
        """Add the losses [B] of one pass; `elements` where they sum over others than the rest."""
        losses = losses.detach().double() / (elements or self._elements)
        finite = losses.isfinite()
        parts = (losses.where(finite, 0.0).sum(), finite.sum(), (~finite).sum())
        sums = torch.stack([part.double() for part in parts])
        self._sums[name] = self._sums[name] + sums if name in self._sums else sums

    def drain(self) -> dict[str, float]:
        """Return each mean since the last call, and `nonfinite`, the losses that no mean holds.

        A loss that is nan makes all gradients of its update so, through the sums over passes and
        processes: they count as 0 then. All processes call it together.
        """
        means, nonfinite = {}, 0.0
        for name, sums in self._sums.items():
            total, count, bad = current().total(sums).tolist()
            means[name] = total / count if count else float("nan")
            nonfinite += bad
        self._sums = {}
        return {**means, "nonfinite": nonfinite}
