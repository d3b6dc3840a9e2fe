"""Vary pictures without harm, and spoil them: what a judge must overlook and what it must see.

Pictures are float32 [B, 3, H, W] in 0..1 on white. Everything is drawn from a generator on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor

_TOGETHER = 64  # pictures
LEAST_BLUR, MOST_BLUR = 1.0, 3.0  # standard deviations, in pixels and in pixels of 64


def vary(pictures: Tensor, draw: Generator) -> Tensor:
    """Turn by up to 12 degrees, scale by 0.85 to 1.15, shift by up to 6%, change light a little."""
    count = len(pictures)
    angle = _uniform(count, -0.21, 0.21, draw)
    scale = _uniform(count, 0.87, 1.18, draw)  # of the sampling grid, so that 1.18 shrinks
    cos, sin = scale * angle.cos(), scale * angle.sin()
    shift = _uniform(count, -0.12, 0.12, draw), _uniform(count, -0.12, 0.12, draw)
    rows = torch.stack([cos, -sin, shift[0], sin, cos, shift[1]], dim=1)
    grid = F.affine_grid(rows.view(count, 2, 3), list(pictures.shape), align_corners=False)
    moved = _sample(pictures, grid)
    light = _uniform(count, 0.9, 1.1, draw)[:, None, None, None]
    grey = moved.mean(dim=1, keepdim=True)
    colour = _uniform(count, 0.8, 1.2, draw)[:, None, None, None]
    return (1 - light * (1 - (grey + colour * (moved - grey)))).clamp(0, 1)


def blur(pictures: Tensor, draw: Generator) -> Tensor:
    """Blur with a Gaussian whose standard deviation is 1 pixel to 3 of 64."""
    most = MOST_BLUR * pictures.shape[-1] / 64
    sigmas = _uniform(len(pictures), LEAST_BLUR, most, draw)
    return torch.cat(
        [gaussian(one[None], float(s)) for one, s in zip(pictures, sigmas, strict=True)]
    )


def add_noise(pictures: Tensor, draw: Generator) -> Tensor:
    """Add Gaussian noise of standard deviation 0.05 to 0.6."""
    level = _uniform(len(pictures), 0.05, 0.6, draw)[:, None, None, None]
    return (pictures + level * torch.randn(pictures.shape, generator=draw)).clamp(0, 1)


def distort(pictures: Tensor, draw: Generator) -> Tensor:
    """Bend along a smooth random field of 2 to 5 pixels of 64, as weak generators bend shapes."""
    count, _, height, width = pictures.shape
    field = torch.randn((count, 2, 6, 6), generator=draw)
    field = F.interpolate(field, (height, width), mode="bicubic", align_corners=False)
    size = _uniform(count, 2.0, 5.0, draw)[:, None, None, None] * (2 / 64)
    same = torch.eye(2, 3).expand(count, 2, 3)
    grid = F.affine_grid(same, list(pictures.shape), align_corners=False)
    return _sample(pictures, grid + (size * field).movedim(1, -1))


WAYS: dict[str, Callable[[Tensor, Generator], Tensor]] = {
    "blurred": blur,
    "noisy": add_noise,
    "distorted": distort,
}


def blur_least(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blur uint8 [N, H, W, 3] by 1 pixel, as little as `blur` does: a judge must see that."""
    rows = torch.from_numpy(pictures).movedim(-1, 1)
    parts = [gaussian(part.float() / 255, LEAST_BLUR) for part in rows.split(_TOGETHER)]
    blurred: NDArray[np.uint8] = (torch.cat(parts) * 255).round().byte().movedim(1, -1).numpy()
    return blurred


def gaussian(pictures: Tensor, sigma: float) -> Tensor:
    """Blur [B, 3, H, W] with a Gaussian of `sigma` pixels, cut off at three of them."""
    reach = max(1, round(3 * sigma))
    at = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.softmax(-(at**2) / (2 * sigma**2), dim=0)
    padded = F.pad(pictures, (reach,) * 4, value=1.0)
    across = F.conv2d(padded, kernel.view(1, 1, 1, -1).expand(3, -1, -1, -1), groups=3)
    return F.conv2d(across, kernel.view(1, 1, -1, 1).expand(3, -1, -1, -1), groups=3)


def _uniform(count: int, low: float, high: float, draw: Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=draw)


def _sample(pictures: Tensor, grid: Tensor) -> Tensor:
    """Read pictures at the grid's places; what lies outside is white."""
    return 1 - F.grid_sample(1 - pictures, grid, align_corners=False)
