"""Muon: momentum whose update is made orthogonal (Jordan et al., 2024), for hidden matrices.

Measured on the emoji teacher: at the same learning rate and batches its loss at high noise falls
where AdamW's rises. Embeddings, norms, biases and the outermost convolutions stay with AdamW.
"""

from __future__ import annotations

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
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: nn.Parameter, group: Mapping[str, Any]) -> None:
        gradient, rate, beta = parameter.grad, group["lr"], group["momentum"]
        assert gradient is not None
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - beta)
        direction = gradient.lerp(state["momentum"], beta).flatten(1)
        update = orthogonal(direction) * (0.2 * max(direction.shape) ** 0.5)
        parameter.mul_(1 - rate * group["decay"]).sub_(update.view_as(parameter), alpha=rate)


def orthogonal(matrix: Tensor) -> Tensor:
    """Bring every singular value of `matrix` near 1, by five Newton-Schulz steps in bf16."""
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    result: Tensor = (x.mT if tall else x).to(matrix.dtype)
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
