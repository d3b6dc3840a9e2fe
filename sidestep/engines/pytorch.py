"""The reference module as an engine, on a GPU where there is one."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from sidestep.engines.contract import GeneratorSpec
from sidestep.errors import BackendUnavailable
from sidestep.model_folder import ModelFolder


class PyTorchEngine:
    """Eager fp32 PyTorch: slower than the compiled engines and the yardstick of all of them."""

    def __init__(self, folder: ModelFolder) -> None:
        """Load the networks; raises BackendUnavailable without torch, diffusers, transformers."""
        try:
            import torch

            from sidestep.engines.torch_module import load_module
        except ImportError as error:
            raise BackendUnavailable(error.name or "torch", "train") from error
        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._module = load_module(folder).to(self._device)
        self._lock = threading.Lock()
        card = folder.card
        self.spec = GeneratorSpec(
            name=f"pytorch-{self._device}",
            weights=card.weights,
            latent_shape=card.latent_shape,
            image_size=card.image_size,
            tokens=card.tokens,
        )

    def __call__(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """Map ids [B, L] and noise [B, 4, h, w] to pictures [B, H, W, 3]."""
        torch = self._torch
        with self._lock, torch.inference_mode():
            ids = torch.from_numpy(input_ids).to(self._device)
            pixels = self._module(ids, torch.from_numpy(noise).to(self._device))
            result: NDArray[np.uint8] = pixels.cpu().numpy()
            return result
