"""A PyTorch model's time split into its networks, by hooks on them while it draws."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class TorchStages:
    """Times text encoder, UNet and decoder inside of whole calls."""

    def __init__(self, text: nn.Module, unet: nn.Module, vae: Any) -> None:
        """Put hooks on the networks; they stay, and cost microseconds."""
        self._ms: dict[str, float] = {}
        self._began = 0.0
        for name, network in (("text", text), ("unet", unet), ("decoder", vae.decoder)):
            network.register_forward_pre_hook(self._enter)
            network.register_forward_hook(self._leave(name))

    def time(self, call: Callable[[], object]) -> dict[str, float]:
        """Run `call` and return the milliseconds of each network in it."""
        self._ms = {}
        call()
        return dict(self._ms)

    def _enter(self, *_: object) -> None:
        _synchronise()
        self._began = time.perf_counter()

    def _leave(self, name: str) -> Callable[..., None]:
        def leave(*_: object) -> None:
            _synchronise()
            passed_ms = 1e3 * (time.perf_counter() - self._began)
            self._ms[name] = self._ms.get(name, 0.0) + passed_ms

        return leave


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
