"""Generators of several steps: their timesteps, noise, cards and diffusers' scheduler."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import LCMScheduler, StableDiffusionPipeline

from distill.folders import Teacher, write_student
from sidestep.engines.fake import FakeEngine
from sidestep.engines.torch_module import load_module
from sidestep.errors import InvalidModel
from sidestep.generator import Generator
from sidestep.images import decode
from sidestep.model_folder import CARD, ModelCard, ModelFolder
from sidestep.noise import latent_noise
from sidestep.schedule import NoiseSchedule

WriteSteps = Callable[..., ModelFolder]


@pytest.fixture
def write_steps(built_model: Path, tiny_teacher: Teacher, tmp_path: Path) -> WriteSteps:
    """Write a model of several steps that is not exported."""

    def write(steps: int, prediction: str = "epsilon") -> ModelFolder:
        card = replace(ModelFolder.open(built_model).card, steps=steps)
        card = replace(card, schedule={**card.schedule, "prediction_type": prediction})
        return write_student(tmp_path / f"{steps}", tiny_teacher, tiny_teacher.unet, card)

    return write


@pytest.mark.parametrize(
    ("steps", "timesteps"),
    [
        (1, (625,)),
        (2, (625, 312)),
        (4, (625, 468, 312, 156)),
        (8, (625, 546, 468, 390, 312, 234, 156, 78)),
    ],
)
def test_timesteps_fall_linearly(steps: int, timesteps: tuple[int, ...]) -> None:
    assert NoiseSchedule.from_config({}, steps=steps).timesteps == timesteps


@pytest.mark.parametrize(
    ("steps", "t_init", "message"),
    [
        (0, 625, "steps is 0; it must be 1 to 8"),
        (9, 625, "steps is 9; it must be 1 to 8"),
        (4, 3, "steps is 4; it must be at most init_timestep, 3"),
    ],
)
def test_steps_that_cannot_be_are_named(steps: int, t_init: int, message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        NoiseSchedule.from_config({}, init_timestep=t_init, steps=steps)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_chain_is_its_equation(prediction: str) -> None:
    schedule = NoiseSchedule.from_config({"prediction_type": prediction}, steps=2)
    z = np.random.default_rng(0).standard_normal((3, 2, 4, 2, 2))
    x_g = schedule.draw(z, lambda x_t, j: np.tanh(x_t + j))
    for row, drawn in zip(z, x_g, strict=True):
        x = np.zeros_like(row[0])
        for j, t in enumerate((625, 312)):
            bar = math.prod(1 - beta for beta in schedule.betas[: t + 1])
            a, sigma = math.sqrt(bar), math.sqrt(1 - bar)
            x_t = a * x + sigma * row[j]
            f = np.tanh(x_t + j)
            x = (x_t - sigma * f) / a if prediction == "epsilon" else a * x_t - sigma * f
        np.testing.assert_allclose(drawn, x, rtol=1e-9)


def test_the_first_steps_noise_is_the_one_step_noise() -> None:
    several = latent_noise([7, 8], (4, 4, 8, 8))
    assert several.shape == (2, 4, 4, 8, 8)
    np.testing.assert_array_equal(several[:, 0], latent_noise([7, 8], (4, 8, 8)))
    np.testing.assert_array_equal(several[:, :2], latent_noise([7, 8], (2, 4, 8, 8)))
    assert not np.array_equal(several[:, 0], several[:, 1])


def test_a_card_keeps_its_steps_and_an_older_one_has_one(
    tiny_model: ModelFolder, write_steps: WriteSteps
) -> None:
    folder = ModelFolder.open(write_steps(4).path)
    assert (folder.card.steps, folder.card.noise_shape) == (4, (4, 4, 8, 8))
    assert folder.schedule.timesteps == (625, 468, 312, 156)
    assert folder.card.weights != tiny_model.card.weights, "the same UNet draws other pictures"
    card = tiny_model.path / CARD
    values = json.loads(card.read_text())
    del values["steps"]
    card.write_text(json.dumps(values))
    older = ModelFolder.open(tiny_model.path)
    assert (older.card.steps, older.card.noise_shape) == (1, (4, 8, 8))
    assert older.card.weights == tiny_model.card.weights


@pytest.mark.parametrize("steps", [0, 9, -1, 2.0, "2", None, True, [2]])
def test_a_card_of_nonsense_steps_is_refused(tiny_model: ModelFolder, steps: object) -> None:
    card = tiny_model.path / CARD
    values = json.loads(card.read_text())
    card.write_text(json.dumps({**values, "steps": steps}))
    with pytest.raises(InvalidModel, match=r"sidestep\.json: steps is .*; it must be 1 to 8"):
        ModelFolder.open(tiny_model.path)


def test_a_graph_of_other_steps_is_refused(tiny_model: ModelFolder) -> None:
    card = tiny_model.path / CARD
    card.write_text(json.dumps({**json.loads(card.read_text()), "steps": 2}))
    with pytest.raises(InvalidModel, match=r"'noise': \(4, 8, 8\)\}, but the card says .*\(2, 4"):
        Generator.load(tiny_model.path, engine="onnx")


def test_the_torch_module_draws_a_row_alone_as_in_a_batch(write_steps: WriteSteps) -> None:
    folder = write_steps(2)
    generator = Generator.load(folder.path, engine="pytorch")
    together = generator.draw(["red apple", "cat face"], [7, 9])
    alone = generator("cat face", seed=9)
    difference = decode(together[1].data).astype(int) - decode(alone.data)
    assert np.abs(difference).max() <= 1


def test_a_fake_of_several_steps_takes_their_noise(
    make_generator: Callable[[FakeEngine], Generator], tiny_model: ModelFolder
) -> None:
    card: ModelCard = replace(tiny_model.card, steps=2)
    generator = make_generator(FakeEngine.like(card))
    assert generator.noise([1, 2]).shape == (2, 2, 4, 8, 8)
    assert decode(generator("red apple", seed=1).data).shape == (16, 16, 3)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [2, 4])
def test_diffusers_draws_the_same_picture(
    write_steps: WriteSteps, monkeypatch: pytest.MonkeyPatch, steps: int, prediction: str
) -> None:
    """StableDiffusionPipeline opened on our folder, given the noise of each step."""
    folder = write_steps(steps, prediction)
    pipeline = StableDiffusionPipeline.from_pretrained(folder.path, dtype=torch.float32)
    assert isinstance(pipeline.scheduler, LCMScheduler)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.from_numpy(latent_noise([7], folder.card.noise_shape))
    fresh: Iterator[torch.Tensor] = iter(noise[0, 1:])

    def next_noise(*_: Any, **__: Any) -> torch.Tensor:
        return next(fresh)[None]

    monkeypatch.setattr("diffusers.schedulers.scheduling_lcm.randn_tensor", next_noise)
    schedule = folder.schedule
    drawn = pipeline(
        "red apple",
        timesteps=list(schedule.timesteps),
        guidance_scale=1,
        latents=schedule.sigma_init * noise[:, 0],
        output_type="np",
    ).images[0]
    ours = decode(Generator.load(folder.path, engine="pytorch")("red apple", seed=7).data)
    assert ours.std() > 20
    assert np.abs(drawn * 255 - ours).max() <= 2
    assert next(fresh, None) is None


def test_two_steps_are_the_schedulers_own(write_steps: WriteSteps) -> None:
    scheduler = LCMScheduler.from_pretrained(write_steps(2).path / "scheduler")
    scheduler.set_timesteps(2)
    assert scheduler.timesteps.tolist() == [625, 312]


def test_steps_share_the_weights_of_one(tiny_model: ModelFolder, write_steps: WriteSteps) -> None:
    folder = write_steps(4)
    unet = next(file for file in folder.weight_files if file.startswith("unet"))
    assert folder.card.files[unet] == tiny_model.card.files[unet]
    module = load_module(folder)
    ids = torch.full((1, folder.card.tokens), 1)
    noise = torch.from_numpy(latent_noise([3], folder.card.noise_shape))
    with torch.inference_mode():
        assert module(ids, noise).shape == (1, 16, 16, 3)
