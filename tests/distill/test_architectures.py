"""Full-size architectures have the published sizes; shrunken ones run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import CLIPTokenizer

from distill.architectures import ARCHITECTURES, VOCABULARY
from distill.folders import load_teacher
from distill.random_model import builders, count_parameters, new_random_model
from sidestep.errors import InvalidModel
from sidestep.files import check_new_folder
from sidestep.generator import Generator
from sidestep.images import decode
from sidestep.model_folder import ModelFolder
from sidestep.tokenizer import PromptTokenizer

SIZES = {
    "sd15": {"text_encoder": 123_060_480, "unet": 859_520_964, "vae": 83_653_863},
    "sd21-base": {"text_encoder": 340_387_840, "unet": 865_910_724, "vae": 83_653_863},
    "sd21": {"text_encoder": 340_387_840, "unet": 865_910_724, "vae": 83_653_863},
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_networks_have_the_published_numbers_of_parameters(name: str) -> None:
    counts = {part: count_parameters(b) for part, b in builders(ARCHITECTURES[name]).items()}
    assert counts == SIZES[name]


@pytest.mark.parametrize("divisor", [2, 4, 8])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_shrunken_architecture_has_the_same_layers(name: str, divisor: int) -> None:
    whole, small = ARCHITECTURES[name], ARCHITECTURES[name].shrunk(divisor)
    for part in ("text_encoder", "unet", "vae"):
        with torch.device("meta"):
            names = [list(builders(a)[part]().state_dict()) for a in (whole, small)]
        assert names[0] == names[1]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    out = tmp_path_factory.mktemp("new") / "small"
    return new_random_model("sd21", out, shrink=8, size_px=64)


def test_a_random_model_draws(small: ModelFolder) -> None:
    small.check()
    generator = Generator.load(small.path, engine="pytorch")
    first, second = (decode(generator("red apple", seed=seed).data) for seed in (0, 1))
    assert first.shape == (64, 64, 3)
    assert first.std() > 20
    assert np.abs(first.astype(int) - second).mean() > 5


def test_a_random_model_is_a_teacher(small: ModelFolder) -> None:
    teacher = load_teacher(small.path)
    assert teacher.schedule["prediction_type"] == "v_prediction"
    assert small.schedule.prediction_type == "v_prediction"
    assert (teacher.latent_shape, teacher.image_size) == ((4, 8, 8), (64, 64))
    assert (small.card.latent_shape, small.card.image_size) == ((4, 8, 8), (64, 64))
    assert teacher.tokens == 77


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_weights_are_drawn_from_the_seed_in_the_precision(tmp_path: Path, precision: str) -> None:
    folders = [
        new_random_model(
            "sd15", tmp_path / name, precision=precision, shrink=8, size_px=64, seed=seed
        )
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    weights = [folder.card.weights for folder in folders]
    assert weights[0] == weights[1] != weights[2]
    with safe_open(tmp_path / "a/unet/diffusion_pytorch_model.safetensors", "pt") as file:
        kernel, scale = file.get_tensor("conv_in.weight"), file.get_tensor("conv_norm_out.weight")
    assert kernel.dtype == {"fp16": torch.float16, "fp32": torch.float32}[precision]
    assert kernel.float().std().item() == pytest.approx(1 / 6, rel=0.1)  # 4 x 3 x 3 inputs
    assert torch.equal(scale, torch.ones_like(scale))


def test_the_tokenizer_has_clips_layout_and_size(small: ModelFolder) -> None:
    folder = small.path / "tokenizer"
    vocabulary = json.loads((folder / "vocab.json").read_text())
    assert sorted(vocabulary.values()) == list(range(VOCABULARY))
    assert vocabulary["<|startoftext|>"] == 49_406
    assert vocabulary["<|endoftext|>"] == 49_407
    theirs = CLIPTokenizer.from_pretrained(folder)
    for prompt in ("red apple", "a photograph of an astronaut riding a horse", "naïve 日本 42", ""):
        wanted = theirs(prompt, padding="max_length", truncation=True, max_length=77).input_ids
        ids = PromptTokenizer(folder, length=77).encode(prompt).ids.tolist()
        assert ids == wanted
        assert ids[-1] == 0  # Stable Diffusion 2 pads with "!"


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(InvalidModel, match="mine exists; delete it or choose another"):
        new_random_model("sd15", tmp_path / "mine", shrink=8)


def test_too_small_a_disk_is_said_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=r"needs 1,000,000.0 GB and its disk has [\d,.]+ GB"):
        check_new_folder(tmp_path / "not" / "yet" / "there", 10**15)
    assert not (tmp_path / "not").exists()
