from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sidestep.errors import InvalidRequest
from sidestep.images import Recipe, decode, encode, read_recipe
from sidestep.requests import FORMATS, ImageFormat

RECIPE = Recipe('a "red" apple — 日本語 😀', 2**64 - 1, "emoji", "ab" * 32, "onnx-cpu", "0.1.0")


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    ramp = np.arange(64, dtype=np.uint8) * 4
    return np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], np.uint8(90)), axis=-1)


@pytest.mark.parametrize("format", FORMATS)
def test_the_recipe_survives_in_every_format(
    pixels: NDArray[np.uint8], format: ImageFormat
) -> None:
    data = encode(pixels, format, RECIPE)
    assert read_recipe(data) == RECIPE
    assert read_recipe(encode(pixels, format)) is None
    assert decode(data).shape == (64, 64, 3)
    assert np.abs(decode(data).astype(int) - pixels).mean() < 4


def test_png_is_exact_and_the_same_every_time(pixels: NDArray[np.uint8]) -> None:
    data = encode(pixels, "png", RECIPE)
    np.testing.assert_array_equal(decode(data), pixels)
    assert encode(pixels, "png", RECIPE) == data


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(40)])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not a PNG, JPEG or WebP"):
        read_recipe(data)


@pytest.mark.parametrize("format", ["png", "jpeg"])
@pytest.mark.parametrize("recipe", [None, RECIPE])
def test_a_recipe_is_read_without_pixels(format: ImageFormat, recipe: Recipe | None) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    cut = encode(noise, format, recipe)[:-500]
    with pytest.raises(InvalidRequest, match="damaged"):
        decode(cut)
    assert read_recipe(cut) == recipe


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_damaged_exif_has_no_recipe(pixels: NDArray[np.uint8], format: ImageFormat) -> None:
    data = encode(pixels, format, RECIPE)
    assert data.count(b"MM\0*") == 1
    assert read_recipe(data.replace(b"MM\0*", b"XX\0*")) is None
