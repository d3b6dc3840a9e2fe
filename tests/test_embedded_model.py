"""The model that comes with the repository is whole, small, and what its card says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sidestep.engines.onnx_runtime import OnnxRuntimeEngine
from sidestep.engines.torch_module import load_module
from sidestep.generator import Generator
from sidestep.images import decode
from sidestep.model_folder import ONNX_CERTIFICATE, ModelFolder
from sidestep.noise import latent_noise
from sidestep.tokenizer import PromptTokenizer

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "models"


SIBLINGS = ("emoji-kappa-3", "emoji-kappa-4.5")


@pytest.fixture(scope="module")
def emoji() -> ModelFolder:
    return ModelFolder.open(MODELS / "emoji")


@pytest.mark.parametrize("name", ["emoji", *SIBLINGS])
def test_every_file_is_what_the_card_says(name: str) -> None:
    folder = ModelFolder.open(MODELS / name)
    folder.check()
    assert folder.card.name == name
    certificate = json.loads((folder.path / ONNX_CERTIFICATE).read_text())
    assert certificate["weights"] == folder.card.weights
    text = (folder.path / "README.md").read_text()
    assert "samples.png" in text
    assert f"{folder.card.recipe['guidance']['kappa4']}" in text


def test_its_siblings_draw_the_same_things_otherwise(emoji: ModelFolder) -> None:
    prompts, seeds = list(emoji.card.examples), [0] * len(emoji.card.examples)
    drawn = [
        np.stack([decode(p.data).astype(float) for p in Generator.load(path).draw(prompts, seeds)])
        for path in (emoji.path, *(MODELS / name for name in SIBLINGS))
    ]
    for other in drawn[1:]:
        apart = np.abs(drawn[0] - other).mean(axis=(1, 2, 3))
        strangers = np.abs(drawn[0] - np.roll(other, 1, axis=0)).mean(axis=(1, 2, 3))
        assert 0 < np.median(apart) < np.median(strangers) / 2


def test_all_weights_are_at_most_40_mib() -> None:
    weights = [p for p in MODELS.rglob("*") if p.suffix in {".safetensors", ".onnx"}]
    assert sum(path.stat().st_size for path in weights) <= 40 * 2**20


def test_its_graph_draws_what_pytorch_draws(emoji: ModelFolder) -> None:
    prompts = list(emoji.card.examples[:5])
    ids = PromptTokenizer(emoji.path / "tokenizer", length=emoji.card.tokens)(prompts)
    noise = latent_noise(range(100, 105), emoji.card.latent_shape)
    with torch.inference_mode():
        wanted = load_module(emoji)(torch.from_numpy(ids), torch.from_numpy(noise)).numpy()
    drawn = OnnxRuntimeEngine(emoji)(ids, noise)
    assert np.abs(drawn.astype(int) - wanted).max() <= 1


def test_prompts_decide_what_is_drawn(emoji: ModelFolder) -> None:
    """The same noise gives other pictures for other prompts, on white, and none is empty."""
    generator = Generator.load(emoji.path)
    drawn = generator.draw(list(emoji.card.examples), [0] * len(emoji.card.examples))
    pictures = np.stack([decode(p.data).astype(float) for p in drawn])
    assert pictures.std(axis=(1, 2, 3)).min() > 20
    corners = pictures[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert np.median(corners) > 230
    apart = [np.abs(a - b).mean() for i, a in enumerate(pictures) for b in pictures[:i]]
    assert min(apart) > 8


def test_the_words_of_a_colour_are_seen(emoji: ModelFolder) -> None:
    generator = Generator.load(emoji.path)
    seeds = range(8)

    def redness(prompt: str) -> float:
        pictures = [decode(p.data).astype(float) for p in generator.draw([prompt] * 8, seeds)]
        return float(np.mean([p[..., 0].mean() - p[..., 2].mean() for p in pictures]))

    assert redness("red heart") > redness("blue heart") + 20
