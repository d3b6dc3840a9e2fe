"""Give pictures another colour, in OKLab (Ottosson, 2020), where hue does not change lightness.

x: linear sRGB in [0, 1]   L lightness, C chroma, h hue in degrees
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# The lightness, chroma and hue that each colour's word stands for.
TARGETS = {
    "red": (0.60, 0.21, 28.0),
    "orange": (0.74, 0.17, 58.0),
    "yellow": (0.88, 0.17, 98.0),
    "green": (0.66, 0.18, 143.0),
    "blue": (0.58, 0.18, 257.0),
    "purple": (0.55, 0.20, 306.0),
    "pink": (0.78, 0.14, 355.0),
}
BINS = 36  # of hue, for the histogram
NEAR = 45.0  # degrees around the dominant hue that change with it
DOMINANT = 0.8  # of all chroma must lie near the hue
COLOURFUL = 0.5  # of all seen pixels must have a colour
FAR = 40.0  # degrees that a new colour differs from the old at least

_TO_LMS = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_TO_LAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


def to_oklab(rgb: Tensor) -> Tensor:
    """sRGB [B, 3, H, W] in [0, 1] -> L, a, b."""
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return _mix(_TO_LAB, _mix(_TO_LMS, linear).clamp(min=0) ** (1 / 3))


def to_srgb(lab: Tensor) -> Tensor:
    """L, a, b [B, 3, H, W] -> sRGB, clamped to [0, 1]."""
    linear = _mix(_TO_LMS, _mix(_TO_LAB, lab, inverse=True) ** 3, inverse=True).clamp(0, 1)
    return torch.where(
        linear <= 0.0031308,
        linear * 12.92,
        1.055 * linear.clamp(min=1e-8) ** (1 / 2.4) - 0.055,
    )


def dominant_hue(rgba: Tensor) -> tuple[Tensor, Tensor]:
    """Return each picture's main hue in degrees [B], and whether it has one [B].

    rgba: [B, 4, H, W] in [0, 1]
    """
    lab = to_oklab(rgba[:, :3])
    chroma, hue = _polar(lab)
    seen = rgba[:, 3] > 0.5
    colourful = seen & (chroma > 0.05)
    weight = (chroma * colourful).flatten(1)
    bins = (hue / 360 * BINS).long().clamp(max=BINS - 1).flatten(1)
    histogram = torch.zeros(len(rgba), BINS, device=rgba.device).scatter_add_(1, bins, weight)
    smooth = histogram + histogram.roll(1, 1) + histogram.roll(-1, 1)
    main = (smooth.argmax(1).float() + 0.5) * (360 / BINS)
    near = _apart(hue, main[:, None, None]) < NEAR
    share = (weight * near.flatten(1)).sum(1) / weight.sum(1).clamp(min=1e-6)
    area = colourful.flatten(1).float().sum(1) / seen.flatten(1).float().sum(1).clamp(min=1)
    return main, (share > DOMINANT) & (area > COLOURFUL)


def may_become(hue: float, colour: str) -> bool:
    """Whether a colour differs enough from a dominant hue to be seen as another."""
    return abs((TARGETS[colour][2] - hue + 180) % 360 - 180) >= FAR


def recolour(rgba: Tensor, hue: Tensor, colours: list[str]) -> Tensor:
    """Turn what is near each picture's dominant hue into its new colour; opacity stays.

    Hues are rotated, lightness and chroma moved towards the colour's by the difference of the
    means, halved for lightness, so that shading and outlines remain.
    rgba: [B, 4, H, W] in [0, 1]; hue: [B] degrees; colours: B words of `TARGETS`
    """
    wanted = torch.tensor([TARGETS[colour] for colour in colours], device=rgba.device)
    lab = to_oklab(rgba[:, :3])
    chroma, hues = _polar(lab)
    apart = _apart(hues, hue[:, None, None])
    change = ((NEAR + 15 - apart) / 15).clamp(0, 1) * (chroma / 0.04).clamp(0, 1)  # soft borders
    weight = change * chroma * (rgba[:, 3] > 0.5)
    total = weight.sum((1, 2)).clamp(min=1e-6)
    light = (weight * lab[:, 0]).sum((1, 2)) / total
    mean_chroma = (weight * chroma).sum((1, 2)) / total
    light = lab[:, 0] + (0.5 * (wanted[:, 0] - light))[:, None, None]
    gain = (wanted[:, 1] / mean_chroma.clamp(min=1e-3)).clamp(0.5, 2)[:, None, None]
    turned = torch.deg2rad(hues + (wanted[:, 2] - hue)[:, None, None])
    moved = torch.stack([light, chroma * gain * turned.cos(), chroma * gain * turned.sin()], dim=1)
    mixed = lab + change[:, None] * (moved - lab)
    return torch.cat([to_srgb(mixed), rgba[:, 3:]], dim=1)


def _polar(lab: Tensor) -> tuple[Tensor, Tensor]:
    """Chroma and hue in degrees, 0 to 360."""
    hue = torch.atan2(lab[:, 2], lab[:, 1]) * (180 / math.pi)
    return lab[:, 1:].norm(dim=1), hue % 360


def _apart(first: Tensor, second: Tensor) -> Tensor:
    """Angle between two hues, 0 to 180 degrees."""
    return ((first - second + 180) % 360 - 180).abs()


def _mix(matrix: tuple[tuple[float, ...], ...], x: Tensor, *, inverse: bool = False) -> Tensor:
    weights = torch.tensor(matrix, dtype=torch.float64)
    weights = (torch.linalg.inv(weights) if inverse else weights).to(x)
    return torch.einsum("ij,bjhw->bihw", weights, x)
