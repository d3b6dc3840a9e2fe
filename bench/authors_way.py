"""What the authors' code does otherwise, for a benchmark to measure what each of it costs.

Nothing trains this way: every entry of WAYS changes a `Distillation` and its losses so that they
do the same work in the authors' order, on the same samples and to the same result.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from distill import losses
from distill.losses import coefficients
from distill.sid_lsg import Distillation
from sidestep.schedule import NoiseSchedule

# name -> what is done in each iteration
WAYS = {
    "text": "text encoded in every call of a network",
    "x_0": "x_0 computed picture by picture, each waiting for the device",
    "gradients": "gradients of both networks kept",
    "moment": "Adam's first moment stored",
    "cache": "garbage collected and cached memory given back",
}


@contextmanager
def in_the_authors_way(
    work: Distillation, ways: Sequence[str], encode: Callable[[Tensor], Tensor]
) -> Iterator[Callable[[int], None]]:
    """Yield `work.update` done in some of WAYS until the block ends.

    encode: rows of prompts [B] -> embeddings [B, L, D]; with the way "text", the texts of `work`
    are to be an `Indices`
    """
    original = losses.to_x0
    try:
        if "text" in ways:
            for part in (work.theta, work.psi, work.phi):
                _encode_in_every_call(part.unet, encode)
        if "x_0" in ways:
            losses.to_x0 = _to_x0_by_picture
        for trained in (work.theta, work.psi):
            if "moment" in ways:
                group = trained.adam.param_groups[0]
                settings = {"lr": group["lr"], "betas": group["betas"], "eps": group["eps"]}
                trained.adam = torch.optim.Adam(group["params"], **settings)  # type: ignore[assignment]
            if "gradients" in ways:
                _keep_gradients(trained.adam)
        yield _and_collect(work.update) if "cache" in ways else work.update
    finally:
        losses.to_x0 = original


class Indices:
    """Texts that are rows of a list of prompts, to be encoded where they are used: [B, 1, 1]."""

    def __init__(self, count: int, device: torch.device) -> None:
        """Row 0 is the empty prompt, 1 to `count` are the others."""
        self._count, self._device = count, device
        self.null_text = torch.zeros(1, 1, 1, device=device)

    def __len__(self) -> int:
        return self._count

    def rows(self, indices: Sequence[int]) -> Tensor:
        """Return the rows of some prompts."""
        rows = torch.tensor(indices, dtype=torch.float32, device=self._device)
        return 1 + rows[:, None, None]


def _encode_in_every_call(unet: torch.nn.Module, encode: Callable[[Tensor], Tensor]) -> None:
    def with_embeddings(_: torch.nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        x_t, t, rows = arguments
        return x_t, t, encode(rows.flatten().long()).to(x_t.dtype)

    unet.register_forward_pre_hook(with_embeddings)


def _to_x0_by_picture(
    prediction: Tensor, schedule: NoiseSchedule, x_t: Tensor, t: Tensor
) -> Tensor:
    """Do what `to_x0` does, in a loop that reads each timestep from the device."""
    pictures = []
    for one, noisy, step in zip(prediction, x_t, t, strict=True):
        a, sigma = (float(part) for part in coefficients(schedule, step[None]))
        if schedule.prediction_type == "epsilon":
            pictures.append((noisy - sigma * one) / a)
        else:
            pictures.append(a * noisy - sigma * one)
    return torch.stack(pictures)


def _keep_gradients(adam: torch.optim.Optimizer) -> None:
    zero = adam.zero_grad
    adam.zero_grad = lambda set_to_none=False: zero(set_to_none=False)  # type: ignore[method-assign]


def _and_collect(update: Callable[[int], None]) -> Callable[[int], None]:
    def collecting(step: int) -> None:
        update(step)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    return collecting
