"""Muon: momentum whose update is made orthogonal (Jordan et al., 2024), for hidden matrices.

Measured on the emoji teacher: at the same learning rate and batches its loss at high noise falls
where AdamW's rises; what it does for the autoencoder is in docs/embedded-model.md. Embeddings,
norms, biases and the outermost convolutions stay with AdamW.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

_STEPS, _A, _B, _C = 5, 3.4445, -4.7750, 2.0315  # x <- (a + b G + c G^2) x, where G = x x^T
_OUTERMOST = ("conv_in", "conv_out", "embed")


class Muon(Optimizer):
    """Nesterov momentum with orthogonal updates; kernels [out, in, h, w] count as [out, in*h*w].

    The update's root mean square is 0.2, as AdamW's typically is, so that AdamW's learning rates
    carry over (Liu et al., 2025).
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        """Take parameters of two dimensions or more."""
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            self._update([p for p in group["params"] if p.grad is not None], group)

    def _update(self, parameters: list[nn.Parameter], group: Mapping[str, Any]) -> None:
        if not parameters:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        rate, beta = group["lr"], group["momentum"]
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - beta)
        ahead = torch._foreach_lerp(gradients, momenta, beta)
        updates = orthogonal([direction.flatten(1) for direction in ahead])
        torch._foreach_mul_(updates, [0.2 * max(update.shape) ** 0.5 for update in updates])
        weights = [parameter.data for parameter in parameters]
        torch._foreach_mul_(weights, 1 - rate * group["decay"])
        steps = [u.reshape(w.shape) for u, w in zip(updates, weights, strict=True)]
        torch._foreach_sub_(weights, steps, alpha=rate)


def orthogonal(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Bring every singular value of each matrix [n, m] near 1, by five Newton-Schulz steps.

    Every step multiplies by a polynomial of x's Gram matrix, and polynomials of one matrix
    commute: so their product is found first, on the smaller side alone and for all matrices of
    that size together, and meets x once. In fp32, where rounding leaves no eigenvalue below 0 that
    would grow.
    """
    wide = [(x.mT if x.shape[0] > x.shape[1] else x).float() for x in matrices]
    alike: dict[int, list[int]] = defaultdict(list)
    for place, x in enumerate(wide):
        alike[len(x)].append(place)
    results = list(wide)
    for places in alike.values():
        products = _products(torch.stack([wide[place] @ wide[place].mT for place in places]))
        for place, product in zip(places, products, strict=True):
            results[place] = product @ wide[place]
    return [
        (y.mT if x.shape[0] > x.shape[1] else y).to(x.dtype)
        for x, y in zip(matrices, results, strict=True)
    ]


def _products(grams: Tensor) -> Tensor:
    """Multiply the steps' polynomials of Gram matrices [k, n, n], scaled to unit trace."""
    square = grams.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] + 1e-14
    grams = grams / square
    factor = _polynomial(grams)
    product = factor / square.sqrt()
    for _ in range(_STEPS - 1):
        grams = factor @ (factor @ grams)
        factor = _polynomial(grams)
        product = factor @ product
    return product


def _polynomial(grams: Tensor) -> Tensor:
    result = torch.baddbmm(grams, grams, grams, beta=_B, alpha=_C)
    result.diagonal(dim1=1, dim2=2).add_(_A)
    return result


def hidden_and_rest(networks: Iterable[nn.Module], *, lr: float) -> dict[str, Optimizer]:
    """Give the networks' hidden matrices to Muon and everything else that learns to AdamW."""
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for network in networks:
        for name, parameter in network.named_parameters():
            if not parameter.requires_grad:
                continue
            inner = parameter.ndim >= 2 and not any(part in name for part in _OUTERMOST)
            (hidden if inner else rest).append(parameter)
    adamw = AdamW(rest, lr=lr, weight_decay=0.01, fused=True)
    return {"muon": Muon(hidden, lr=lr), "adamw": adamw}
