"""Adam without the copy of the gradient that beta1 = 0 makes of its first moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from distill.parts import in_parts
from distill.shards import local

PART = 2**25  # elements that are updated together: their denominators take 128 MiB


class AdamWithoutMomentum(Optimizer):
    """Adam with beta1 = 0: v = beta2 v + (1 - beta2) g^2, w = w - lr g / (sqrt(v_hat) + eps).

    With beta1 = 0 the first moment m is the gradient g, so it is not stored, which saves one copy
    of the network. Equals `torch.optim.Adam(betas=(0.0, beta2), foreach=False, fused=False)` bit
    for bit, because the operations and their order are the same.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        """Take the parameters; those without a gradient in a step are left alone in it."""
        super().__init__(parameters, {"lr": lr, "betas": (0.0, beta2), "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            trained = (parameter for parameter in group["params"] if parameter.grad is not None)
            for parameters in in_parts(trained, PART):  # which bounds what an update holds
                self._update(parameters, group)

    def _update(self, parameters: Sequence[nn.Parameter], group: Mapping[str, Any]) -> None:
        """Update some parameters together, a kernel for all where there is one.

        One after another they cost a small network on a GPU more than its passes do.
        """
        beta2 = group["betas"][1]
        weights, gradients, squares, corrections = [], [], [], []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.tensor(0.0)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            state["step"] += 1
            weights.append(local(parameter))
            gradients.append(local(parameter.grad))  # type: ignore[arg-type]  # all have one
            squares.append(local(state["exp_avg_sq"]))
            corrections.append((1 - beta2 ** state["step"].item()) ** 0.5)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
        denominators = torch._foreach_sqrt(squares)
        torch._foreach_div_(denominators, corrections)
        torch._foreach_add_(denominators, group["eps"])
        torch._foreach_addcdiv_(weights, gradients, denominators, value=-group["lr"])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state, also one of torch.optim.Adam, whose first moment is not needed."""
        state = {
            index: {key: value for key, value in fields.items() if key != "exp_avg"}
            for index, fields in state_dict["state"].items()
        }
        super().load_state_dict({**state_dict, "state": state})
