"""How near pictures are to others: PSNR and SSIM."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def psnr(x: Tensor, y: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [-1, 1], by the error of all together."""
    return 10 * math.log10(4 / F.mse_loss(x.float(), y.float()).item())


def psnr_of_each(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each picture [B] of two [B, C, H, W] in [-1, 1]."""
    error = (x.float() - y.float()).square().mean((1, 2, 3))
    return 10 * torch.log10(4 / error.clamp(min=1e-12))


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of each picture [B] (Wang et al., 2004), on brightness.

    x, y: [B, 3, H, W] in [-1, 1]; Gaussian window of 11 pixels, sigma 1.5, borders left out
    """
    x, y = (_brightness(picture) for picture in (x, y))
    offsets = torch.arange(11, device=x.device) - 5.0
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = torch.outer(line, line)[None, None] / line.sum() ** 2

    def mean(picture: Tensor) -> Tensor:
        return F.conv2d(picture, window)

    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similar = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (similar / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean((1, 2, 3))


def _brightness(x: Tensor) -> Tensor:
    """[B, 3, H, W] in [-1, 1] -> [B, 1, H, W] in [0, 1]."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=x.device)[None, :, None, None]
    return ((x.float() + 1) / 2 * weights).sum(1, keepdim=True)
