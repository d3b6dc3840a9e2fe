"""Muon: momentum whose update is made orthogonal (Jordan et al., 2024), for hidden matrices.

Measured on the emoji teacher: at the same learning rate and batches its loss at high noise falls
where AdamW's rises. Embeddings, norms, biases and the outermost convolutions stay with AdamW.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

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
        """Update every parameter that has a gradient; those of one shape together.

        A small network has hundreds of matrices of a few shapes, and a GPU is slow at many small
        products.
        """
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.shape].append(parameter)
            for parameters in alike.values():
                self._update(parameters, group)

    def _update(self, parameters: list[nn.Parameter], group: Mapping[str, Any]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        rate, beta = group["lr"], group["momentum"]
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - beta)
        directions = torch.stack(
            [g.lerp(m, beta).flatten(1) for g, m in zip(gradients, momenta, strict=True)]
        )
        updates = orthogonal(directions) * (0.2 * max(directions.shape[1:]) ** 0.5)
        shape, weights = parameters[0].shape, [parameter.data for parameter in parameters]
        torch._foreach_mul_(weights, 1 - rate * group["decay"])
        torch._foreach_sub_(weights, [u.reshape(shape) for u in updates], alpha=rate)


def orthogonal(matrices: Tensor) -> Tensor:
    """Bring every singular value of [..., n, m] near 1, by five Newton-Schulz steps in bf16."""
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    result: Tensor = (x.mT if tall else x).to(matrices.dtype)
    return result


def hidden_and_rest(networks: Iterable[nn.Module], *, lr: float) -> dict[str, Optimizer]:
    """Give the networks' hidden matrices to Muon and everything else to AdamW."""
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for network in networks:
        for name, parameter in network.named_parameters():
            inner = parameter.ndim >= 2 and not any(part in name for part in _OUTERMOST)
            (hidden if inner else rest).append(parameter)
    adamw = AdamW(rest, lr=lr, weight_decay=0.01, fused=True)
    return {"muon": Muon(hidden, lr=lr), "adamw": adamw}
