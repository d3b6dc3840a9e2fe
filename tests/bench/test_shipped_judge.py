"""The judge in `models/judge`, on pictures of the embedded model: nothing else is at hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.quality.frechet import Statistics, frechet_distance
from bench.quality.judge import Features, Judge, Reference, find_judge
from bench.quality.protocol import make_plan
from bench.quality.scores import fit
from bench.quality.spoiling import blur_least
from sidestep.generator import Generator
from sidestep.model_folder import ModelFolder

IMAGES = 96


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load()


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.load()


@pytest.fixture(scope="module")
def prompts(reference: Reference) -> list[str]:
    return make_plan(reference, images=IMAGES, held_out=[], diverse=[]).prompts


@pytest.fixture(scope="module")
def drawn(prompts: list[str]) -> NDArray[np.uint8]:
    model = Path(__file__).parents[2] / "models" / "emoji"
    generator = Generator.load(ModelFolder.open(model).path, engine="onnx")
    ids, noise = generator.tokenizer(prompts), generator.noise(range(IMAGES))
    return np.concatenate(
        [generator.engine(ids[i : i + 8], noise[i : i + 8]) for i in range(0, IMAGES, 8)]
    )


def test_it_is_small() -> None:
    assert sum(file.stat().st_size for file in find_judge().rglob("*")) <= 8e6


def test_it_names_and_ranks_the_models_pictures(
    judge: Judge, reference: Reference, prompts: list[str], drawn: NDArray[np.uint8]
) -> None:
    """Real pictures, the model's, the same blurred, and noise: each is judged worse."""
    plan = make_plan(reference, images=IMAGES, held_out=[], diverse=[])
    noise = np.random.default_rng(0).integers(0, 256, drawn.shape, np.uint8)
    seen = {
        "real": plan.yardstick,
        "drawn": judge.see(drawn),
        "blurred": judge.see(blur_least(drawn)),
        "noise": judge.see(noise),
    }
    apart = [_distance(features, plan.real) for features in seen.values()]
    assert apart == sorted(apart)
    assert apart[0] < apart[2] / 3
    fits = [fit(judge, reference, features, prompts) for features in seen.values()]
    scores = [one.clip for one in fits]
    assert scores == sorted(scores, reverse=True)
    assert fits[1].named > 0.5
    assert fits[3].named < 0.1


def test_the_reference_is_its_own(judge: Judge, reference: Reference) -> None:
    told = json.loads((find_judge() / "judge.json").read_text())["measured"]
    assert told["top5"] >= 0.6
    assert len(reference.names) == told["pictures"]
    assert int(reference.test.sum()) == told["test_pictures"]
    assert reference.features.shape[1] == judge.read(["red apple"]).shape[1]


def _distance(features: Features, real: Features) -> float:
    return frechet_distance(Statistics.of(features), Statistics.of(real))
