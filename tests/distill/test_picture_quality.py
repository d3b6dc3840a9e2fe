"""PSNR and SSIM on pictures whose figures are known."""

from __future__ import annotations

import pytest
import torch

from distill.picture_quality import psnr, psnr_of_each, ssim


def test_an_error_of_a_tenth_is_26_db() -> None:
    x = torch.zeros(2, 3, 16, 16)
    y = torch.stack([x[0] + 0.1, x[1] + 0.2])
    assert psnr_of_each(x, y).tolist() == pytest.approx([26.02, 20], abs=0.01)
    assert psnr(x[:1], y[:1]) == pytest.approx(26.02, abs=0.01)


def test_similarity_is_one_for_the_same_and_falls_with_noise() -> None:
    source = torch.Generator().manual_seed(0)
    x = torch.rand(1, 3, 32, 32, generator=source) * 2 - 1
    noise = torch.randn(x.shape, generator=source)
    values = [float(ssim(x, x + scale * noise)) for scale in (0, 0.1, 1)]
    assert values[0] == pytest.approx(1, abs=1e-4)
    assert values == sorted(values, reverse=True)
    assert values[2] < 0.8


def test_a_shift_of_brightness_costs_as_wang_says() -> None:
    """On flat pictures SSIM is its brightness term: (2ab + c1) / (a^2 + b^2 + c1)."""
    x, y = torch.full((1, 3, 16, 16), -0.2), torch.full((1, 3, 16, 16), 0.2)
    wanted = (2 * 0.4 * 0.6 + 1e-4) / (0.4**2 + 0.6**2 + 1e-4)
    assert float(ssim(x, y)) == pytest.approx(wanted, abs=1e-3)
