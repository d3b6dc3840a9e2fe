"""Adam without the copy of the gradient that beta1 = 0 makes of its first moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


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
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: nn.Parameter, gradient: Tensor, group: Mapping[str, Any]) -> None:
        state, beta2 = self.state[parameter], group["betas"][1]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        root_correction = (1 - beta2 ** state["step"].item()) ** 0.5
        denominator = (state["exp_avg_sq"].sqrt() / root_correction).add_(group["eps"])
        parameter.addcdiv_(gradient, denominator, value=-group["lr"])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state, also one of torch.optim.Adam, whose first moment is not needed."""
        state = {
            index: {key: value for key, value in fields.items() if key != "exp_avg"}
            for index, fields in state_dict["state"].items()
        }
        super().load_state_dict({**state_dict, "state": state})
