from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sidestep.engines.fake import FakeEngine
from sidestep.errors import InvalidModel, InvalidRequest, NoGpu
from sidestep.generator import Generator
from sidestep.images import decode, read_recipe
from sidestep.model_folder import CARD, ONNX, ModelFolder, find_model, named_folder, write_card
from sidestep.requests import GenerateRequest
from sidestep.tokenizer import PromptTokenizer


@pytest.mark.parametrize("engine", ["onnx", "pytorch"])
def test_a_seed_draws_the_same_alone_and_in_a_batch_of_eight(
    tiny_model: ModelFolder, engine: str
) -> None:
    generator = Generator.load(tiny_model.path, engine=engine)
    alone = decode(generator("red apple", seed=3).data).astype(int)
    request = GenerateRequest.parse({"prompt": "red apple", "seed": 0, "count": 8})
    together = generator.generate(request)
    assert [p.seed for p in together] == list(range(8))
    assert together[3].timings.batch_size == 8
    assert np.abs(decode(together[3].data) - alone).max() <= 1
    assert np.abs(decode(together[4].data) - alone).max() > 1


def test_the_front_door(tiny_model: ModelFolder, tmp_path: Path) -> None:
    path = Generator.load(tiny_model.path)("red apple", seed=7).save(tmp_path / "a.png")
    recipe = read_recipe(path.read_bytes())
    assert recipe is not None
    assert (recipe.prompt, recipe.seed, recipe.model) == ("red apple", 7, "tiny")
    assert recipe.weights == tiny_model.card.weights
    assert recipe.licence is None


def test_licences_travel_into_pictures(tiny_model: ModelFolder) -> None:
    licences = {"weights": "OpenRAIL-M", "text encoder": "MIT", "decoder": "MIT"}
    write_card(tiny_model.path, replace(tiny_model.card, licences=licences))
    recipe = read_recipe(Generator.load(tiny_model.path)("red apple", seed=7).data)
    assert recipe is not None
    assert recipe.licence == "OpenRAIL-M, MIT"


def test_more_pictures_than_a_batch_holds(tokenizer: PromptTokenizer) -> None:
    engine = FakeEngine(tokens=12, buckets=(1, 2, 4))
    pictures = Generator("fake", tokenizer, engine).draw(["red apple"] * 10, range(10))
    assert engine.batches == [4, 4, 2]
    assert [p.seed for p in pictures] == list(range(10))
    assert len({p.data for p in pictures}) == 10


def test_a_renewed_engine_takes_the_place_of_the_first(tokenizer: PromptTokenizer) -> None:
    """Also of what holds its memory."""
    gone = weakref.ref(first := FakeEngine(tokens=12))
    second = FakeEngine(tokens=12)
    generator = Generator("fake", tokenizer, first, reopen=lambda: second)
    del first
    assert generator.renew() is second
    assert generator.engine is second
    assert gone() is None


def test_another_engine_does_not_draw_under_the_name_of_the_first(
    tokenizer: PromptTokenizer,
) -> None:
    first, other = FakeEngine(tokens=12), FakeEngine(tokens=12)
    other.spec = replace(other.spec, name="onnx-cpu")
    generator = Generator("fake", tokenizer, first, reopen=lambda: other)
    with pytest.raises(NoGpu, match="fake cannot be opened anew; onnx-cpu opened instead"):
        generator.renew()
    assert generator.engine is first


@pytest.mark.parametrize("file", [ONNX, "tokenizer/vocab.json", "tokenizer/merges.txt", CARD])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_file_is_named(tiny_model: ModelFolder, file: str, damage: str) -> None:
    path = tiny_model.path / file
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InvalidModel, match=path.name):
        Generator.load(tiny_model.path)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_damaged_weights_are_named(tiny_model: ModelFolder, part: str) -> None:
    path = next((tiny_model.path / part).glob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InvalidModel, match=path.name):
        Generator.load(tiny_model.path, engine="pytorch")


def test_an_unknown_engine_is_refused(tiny_model: ModelFolder) -> None:
    with pytest.raises(InvalidRequest, match=r"auto, tensorrt, .*onnx, .*pytorch"):
        Generator.load(tiny_model.path, engine="magic")


def test_the_environment_names_the_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIDESTEP_MODEL", str(tmp_path))
    assert find_model() == tmp_path


def test_a_bare_name_is_an_embedded_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIDESTEP_MODEL", raising=False)
    assert ModelFolder.open("emoji").path == find_model()
    assert named_folder("mine=emoji") == ("mine", find_model())
    (tmp_path / "emoji").mkdir()
    assert named_folder("emoji") == (None, Path("emoji")), "a folder here comes first"
    with pytest.raises(InvalidModel, match=r"sidestep\.json is missing"):
        ModelFolder.open("emoji")


def test_diffusers_draws_the_same_picture(tiny_model: ModelFolder) -> None:
    """One step of StableDiffusionPipeline at guidance 1, opened on our folder."""
    import torch
    from diffusers import StableDiffusionPipeline

    from sidestep.noise import latent_noise

    pipeline = StableDiffusionPipeline.from_pretrained(tiny_model.path, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(
        "red apple",
        num_inference_steps=1,
        guidance_scale=1,
        latents=torch.from_numpy(latent_noise([7], tiny_model.card.latent_shape)),
        output_type="np",
    ).images[0]
    ours = decode(Generator.load(tiny_model.path)("red apple", seed=7).data)
    assert np.abs(drawn * 255 - ours).max() <= 2
