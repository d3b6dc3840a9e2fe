"""Engines that PyTorch runs, on a GPU where there is one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidestep.engines.contract import GeneratorSpec
from sidestep.errors import needing
from sidestep.model_folder import ModelFolder


class TorchEngine:
    """Calls a PyTorch function of (ids, noise), one call at a time."""

    def __init__(
        self, run: Callable[..., Any], device: str, name: str, folder: ModelFolder
    ) -> None:
        """Take the function, the device of its inputs, and the name and model for the spec."""
        if device == "cuda":
            forbid_tf32()
        self._run, self._device = run, device
        self._lock = threading.Lock()
        self.spec = GeneratorSpec.of(folder, name)

    def __call__(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """Map ids [B, L] and noise [B, 4, h, w] to pictures [B, H, W, 3]."""
        import torch

        with self._lock, torch.inference_mode():
            ids = torch.from_numpy(input_ids).to(self._device)
            pixels = self._run(ids, torch.from_numpy(noise).to(self._device))
            drawn: NDArray[np.uint8] = pixels.cpu().numpy()
            return drawn


def forbid_tf32() -> None:
    """Compute fp32 in fp32 from now on: PyTorch's convolutions on GPUs are TF32 by default."""
    import torch

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


class PyTorchEngine(TorchEngine):
    """Eager fp32 PyTorch: slower than the compiled engines and the yardstick of all of them."""

    def __init__(self, folder: ModelFolder) -> None:
        """Load the networks; raises BackendUnavailable without torch, diffusers, transformers."""
        with needing("train"):
            import torch

            from sidestep.engines.torch_module import load_module
        device = "cuda" if torch.cuda.is_available() else "cpu"
        super().__init__(load_module(folder).to(device), device, f"pytorch-{device}", folder)
