"""Colours change where a picture has one, and only there."""

from __future__ import annotations

import pytest
import torch

from distill.recolour import TARGETS, dominant_hue, may_become, recolour, to_oklab, to_srgb


def square(colour: tuple[float, float, float], *, dot: tuple[float, float, float]) -> torch.Tensor:
    """A square of one colour with a small dot of another, [1, 4, 16, 16]."""
    rgba = torch.zeros(1, 4, 16, 16)
    rgba[0, 3, 2:14, 2:14] = 1
    rgba[0, :3, 2:14, 2:14] = torch.tensor(colour)[:, None, None]
    rgba[0, :3, 6:8, 6:8] = torch.tensor(dot)[:, None, None]
    return rgba


def test_oklab_and_back() -> None:
    rgb = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(to_srgb(to_oklab(rgb)), rgb, atol=1e-3)
    white = to_oklab(torch.ones(1, 3, 1, 1)).flatten()
    assert white.tolist() == pytest.approx([1, 0, 0], abs=1e-3)
    red = to_oklab(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)).flatten()
    assert red.tolist() == pytest.approx([0.628, 0.2249, 0.1258], abs=1e-3)  # Ottosson's


def test_a_colour_differs_from_its_neighbours_enough() -> None:
    assert not may_become(28, "red")
    assert not may_become(28, "orange")
    assert not may_become(350, "red")
    assert may_become(28, "green")


@pytest.mark.parametrize("colour", [c for c in TARGETS if c not in {"red", "pink"}])
def test_a_red_thing_becomes_another_colour_and_keeps_its_dot(colour: str) -> None:
    rgba = square((0.85, 0.1, 0.1), dot=(0.1, 0.1, 0.1))
    hue, clear = dominant_hue(rgba)
    assert bool(clear)
    assert may_become(float(hue), colour) or colour == "orange"
    drawn = recolour(rgba, hue, [colour])
    again, _ = dominant_hue(drawn)
    assert abs((float(again) - TARGETS[colour][2] + 180) % 360 - 180) < 25
    light, chroma, _ = TARGETS[colour]
    before, after = (to_oklab(picture[:, :3])[0, :, 3, 3] for picture in (rgba, drawn))
    assert abs(after[0] - light) < abs(before[0] - light)
    assert abs(after[1:].norm() - chroma) < 0.05
    assert torch.allclose(drawn[0, :3, 6, 6], rgba[0, :3, 6, 6], atol=0.02)
    assert torch.equal(drawn[:, 3], rgba[:, 3])


def test_grey_and_motley_things_have_no_colour_to_change() -> None:
    grey = square((0.5, 0.5, 0.5), dot=(0.9, 0.1, 0.1))
    motley = square((0.9, 0.1, 0.1), dot=(0.1, 0.1, 0.9))
    motley[0, :3, 2:14, 8:14] = torch.tensor([0.1, 0.2, 0.9])[:, None, None]
    assert not dominant_hue(grey)[1]
    assert not dominant_hue(motley)[1]
