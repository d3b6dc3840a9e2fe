from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sidestep.errors import InvalidModel, InvalidRequest, VerificationFailed
from sidestep.generator import Generator
from sidestep.images import decode, encode, read_recipe
from sidestep.model_folder import ONNX_CERTIFICATE, ModelFolder
from sidestep.requests import GenerateRequest
from sidestep.verification import verify


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("quality", [None, 40])
def test_a_picture_is_what_its_recipe_draws(
    tiny_model: ModelFolder, format: str, quality: int | None
) -> None:
    generator = Generator.load(tiny_model.path)
    values = {"prompt": "red apple", "seed": 7, "format": format, "quality": quality}
    picture = generator.generate(GenerateRequest.parse(values))[0]
    verdict = verify(picture.data, tiny_model, generator)
    assert verdict.largest_difference == 0
    assert verdict.tolerance == 1
    assert (verdict.recipe.prompt, verdict.recipe.seed) == ("red apple", 7)


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_another_picture_is_found_out(tiny_model: ModelFolder, format: str) -> None:
    generator = Generator.load(tiny_model.path)
    other = generator("red apple", seed=8, format=format)  # type: ignore[arg-type]
    recipe = read_recipe(generator("red apple", seed=7).data)
    forged = encode(decode(other.data), other.format, recipe)
    with pytest.raises(VerificationFailed, match="not what its recipe draws"):
        verify(forged, tiny_model, generator)


def test_one_level_is_within_the_certificate_and_two_are_not(tiny_model: ModelFolder) -> None:
    generator = Generator.load(tiny_model.path)
    data = generator("red apple", seed=7).data
    for levels, holds in ((1, True), (2, False)):
        pixels = decode(data).copy()
        pixels[3, 4, 1] += levels if pixels[3, 4, 1] < 128 else -levels
        changed = encode(pixels, "png", read_recipe(data))
        if holds:
            assert verify(changed, tiny_model, generator).largest_difference == 1
        else:
            with pytest.raises(VerificationFailed, match="up to 2/255"):
                verify(changed, tiny_model, generator)


def test_another_precision_is_allowed_what_its_certificate_allows(tiny_model: ModelFolder) -> None:
    generator = Generator.load(tiny_model.path)
    data = generator("red apple", seed=7).data
    recipe, pixels = read_recipe(data), decode(data).copy()
    assert recipe is not None
    pixels[3, 4, 1] += 7 if pixels[3, 4, 1] < 128 else -7
    half = encode(pixels, "png", replace(recipe, engine="tensorrt-rtx-fp16"))
    assert verify(half, tiny_model, generator).tolerance == 8
    with pytest.raises(VerificationFailed, match="up to 7/255"):
        verify(encode(pixels, "png", recipe), tiny_model, generator)


def test_what_cannot_be_verified_is_said(tiny_model: ModelFolder) -> None:
    generator = Generator.load(tiny_model.path)
    bare = generator.generate(GenerateRequest(prompt="a", seed=1), recipe=False)[0].data
    assert read_recipe(bare) is None
    with pytest.raises(InvalidRequest, match="no recipe"):
        verify(bare, tiny_model, generator)
    data = generator("red apple", seed=7).data
    recipe = read_recipe(data)
    assert recipe is not None
    pixels = decode(data)
    for change, words in (
        ({"weights": "f" * 64}, "weights ffffffffffff, not"),
        ({"seed": -1}, "seed must be"),
        ({"seed": "7"}, "seed must be"),
        ({"prompt": ""}, "prompt must be"),
        ({"quality": 101}, "quality must be"),
    ):
        changed = encode(pixels, "png", replace(recipe, **change))
        with pytest.raises(InvalidRequest, match=words):
            verify(changed, tiny_model, generator)
    with pytest.raises(VerificationFailed, match="is 8x8, but its recipe draws 16x16"):
        verify(encode(pixels[:8, :8], "png", recipe), tiny_model, generator)
    with pytest.raises(InvalidRequest, match="damaged"):
        verify(data[: len(data) - 100], tiny_model, generator)
    gif = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(gif, "GIF")
    with pytest.raises(InvalidRequest, match="not a PNG, JPEG or WebP"):
        verify(gif.getvalue(), tiny_model, generator)


def test_a_damaged_certificate_is_named(tiny_model: ModelFolder) -> None:
    path: Path = tiny_model.path / ONNX_CERTIFICATE
    path.write_text(json.dumps({"tolerance": 200}))
    with pytest.raises(InvalidModel, match=r"certificate\.json does not match"):
        tiny_model.tolerance()
