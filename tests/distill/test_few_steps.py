"""Several steps are the chain that they say, and the last of them alone is trained."""

from __future__ import annotations

import copy
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from distill.few_steps import draw_k, several_steps
from distill.folders import Teacher, write_teacher
from distill.losses import one_step
from distill.options import DistillOptions
from distill.precision import PRECISIONS
from distill.samples import Samples
from distill.sid_lsg import Run, distil
from distill.student import distil_folder
from distill.texts import EncodedTexts
from distill.trained import Scoring
from sidestep.errors import InvalidTraining
from sidestep.generator import Generator
from sidestep.schedule import NoiseSchedule

TIMESTEPS = {1: (625,), 2: (625, 312), 4: (625, 468, 312, 156)}
OPTIONS = DistillOptions(
    iterations=4, batch=2, learning_rate=1e-3, checkpoint_every=2, precision="fp32", steps=2
)


def schedule_of(steps: int, prediction: str = "epsilon") -> NoiseSchedule:
    return NoiseSchedule.from_config({"prediction_type": prediction}, steps=steps)


@pytest.fixture
def texts() -> EncodedTexts:
    source = torch.Generator().manual_seed(1)
    parts = [torch.randn(4, 12, 16, generator=source), torch.randn(2, 12, 16, generator=source)]
    return EncodedTexts(parts, torch.randn(1, 12, 16, generator=source))


class Network:
    """A network that depends on all that it is given, with one weight, and counts its calls."""

    def __init__(self) -> None:
        self.weight = torch.tensor(0.3, requires_grad=True)
        self.calls: list[int] = []

    def __call__(self, x_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
        self.calls.append(int(t[0]))
        return torch.tanh(self.weight * x_t + t[:, None, None, None] / 500 + text.mean())


def inputs(k: int) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    return torch.randn(3, k, 4, 2, 2, generator=source), torch.randn(3, 5, 8, generator=source)


def transcribed(z: Tensor, text: Tensor, timesteps: tuple[int, ...], prediction: str) -> Tensor:
    """The chain of one picture after another, in float64, from the betas."""
    pictures = []
    for row in z.double():
        x_g = torch.zeros_like(row[0])
        for t, z_j in zip(timesteps, row, strict=True):
            bar = math.prod(
                1 - (0.00085**0.5 + i * (0.012**0.5 - 0.00085**0.5) / 999) ** 2
                for i in range(t + 1)
            )
            a, sigma = math.sqrt(bar), math.sqrt(1 - bar)
            x_t = a * x_g + sigma * z_j
            f = torch.tanh(0.3 * x_t + t / 500 + text.double().mean())
            x_g = (x_t - sigma * f) / a if prediction == "epsilon" else a * x_t - sigma * f
        pictures.append(x_g)
    return torch.stack(pictures)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", TIMESTEPS)
def test_the_chain_is_its_equation(steps: int, prediction: str) -> None:
    z, text = inputs(steps)
    # x_g begins at 0, so that the first x_t is sigma z alone, as it is in the equation.
    wanted = transcribed(z, text, TIMESTEPS[steps], prediction)
    network = Network()
    x_g = several_steps(network, schedule_of(steps, prediction), z, text)
    torch.testing.assert_close(x_g.double(), wanted, rtol=1e-4, atol=1e-5)
    assert tuple(network.calls) == TIMESTEPS[steps]


def test_a_shorter_chain_is_the_beginning_of_the_longest() -> None:
    z, text = inputs(2)
    network = Network()
    several_steps(network, schedule_of(4), z, text)
    assert network.calls == [625, 468]


def test_one_step_is_what_it_was() -> None:
    z, text = inputs(1)
    network = Network()
    assert torch.equal(
        several_steps(network, schedule_of(1), z, text),
        one_step(network, schedule_of(1), z[:, 0], text),
    )


def test_gradients_reach_the_last_step_alone() -> None:
    z, text = inputs(3)
    z.requires_grad_(True)
    network, schedule = Network(), schedule_of(4)
    weight, noise = torch.autograd.grad(
        several_steps(network, schedule, z, text).square().sum(), [network.weight, z]
    )
    assert (noise[:, :2] == 0).all()
    assert (noise[:, 2] != 0).all()

    with torch.no_grad():
        before = several_steps(network, schedule, z[:, :2], text)
    t = schedule.timesteps[2]
    a, sigma = float(schedule.a[t]), float(schedule.sigma[t])
    x_t = a * before + sigma * z[:, 2].detach()
    predicted = network(x_t, torch.full((3,), t), text)
    alone = ((x_t - sigma * predicted) / a).square().sum()
    (wanted,) = torch.autograd.grad(alone, network.weight)
    torch.testing.assert_close(weight, wanted, rtol=1e-5, atol=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_steps_before_leave_the_last_ones_gradients_alone(
    tiny_teacher: Teacher, precision: str
) -> None:
    """Autocast keeps cast weights for later passes; those of a pass without gradient have none."""
    unet = copy.deepcopy(tiny_teacher.unet).requires_grad_(True)
    source = torch.Generator().manual_seed(0)
    z = torch.randn(2, 2, 4, 8, 8, generator=source)
    text = torch.randn(2, 12, 16, generator=source)
    several_steps(Scoring(unet, PRECISIONS[precision]), schedule_of(2), z, text).sum().backward()
    gradients = [weight.grad for weight in unet.parameters()]
    assert all(g is not None and g.abs().max() > 0 for g in gradients)


def test_k_is_uniform_and_one_for_the_whole_update(texts: EncodedTexts) -> None:
    counts = Counter(draw_k(0, "generator", step, 4) for step in range(1, 2001))
    assert sorted(counts) == [1, 2, 3, 4]
    assert all(abs(count - 500) < 4 * math.sqrt(500 * 0.75) for count in counts.values())
    assert {draw_k(seed, "fake", 1, 1) for seed in range(20)} == {1}
    samples = Samples(texts, (4, 2, 2), seed=0, steps=4)
    for step in range(1, 9):
        parts = [samples.draw("fake", step, rows).z for rows in ([0, 1], [2])]
        assert {part.shape[1] for part in parts} == {draw_k(0, "fake", step, 4)}


def test_one_step_draws_what_it_drew_before(texts: EncodedTexts) -> None:
    from distill.draws import generator

    drawn = Samples(texts, (4, 2, 2), seed=5).draw("fake", 3, [7])
    source = generator(5, "fake", 3, 7)
    wanted = [torch.randn(4, 2, 2, generator=source) for _ in range(2)]
    assert torch.equal(drawn.z[0, 0], wanted[0])
    assert torch.equal(drawn.noise[0], wanted[1])


def test_a_stopped_run_of_two_steps_ends_bit_for_bit_as_an_unbroken_one(
    tiny_teacher: Teacher, texts: EncodedTexts, tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def stop(step: int, student: nn.Module) -> None:
        raise Stop

    schedule = schedule_of(2)
    assert {draw_k(0, phase, 3, 2) for phase in ("fake", "generator")} == {1, 2}
    distil(tiny_teacher.unet, texts, schedule, OPTIONS, Run(tmp_path / "a"))
    with pytest.raises(Stop):
        distil(tiny_teacher.unet, texts, schedule, OPTIONS, Run(tmp_path / "b", on_checkpoint=stop))
    distil(tiny_teacher.unet, texts, schedule, OPTIONS, Run(tmp_path / "b"))
    a, b = (load_file(tmp_path / name / "state-000004.safetensors") for name in "ab")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_run_does_not_go_on_in_other_steps(
    tiny_teacher: Teacher, texts: EncodedTexts, tmp_path: Path
) -> None:
    options = replace(OPTIONS, iterations=1)
    distil(tiny_teacher.unet, texts, schedule_of(2), options, Run(tmp_path))
    with pytest.raises(InvalidTraining, match=r"other options: steps \(2 -> 4\)"):
        distil(tiny_teacher.unet, texts, schedule_of(4), replace(options, steps=4), Run(tmp_path))
    assert "steps" not in replace(OPTIONS, steps=1).identity  # older runs go on


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 0}, "--steps 0 is below 1, the least"),
        ({"steps": 9}, "--steps 9 is above 8, the most"),
        ({"steps": 4, "init_timestep": 3}, "--steps 4 is above --init-timestep 3, the most"),
    ],
)
def test_steps_that_cannot_be_are_refused(given: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidTraining, match=message):
        replace(OPTIONS, **given)


def test_distilling_in_steps_writes_a_model_of_as_many(
    tiny_teacher: Teacher, tmp_path: Path
) -> None:
    write_teacher(tmp_path / "teacher", tiny_teacher)
    options = replace(OPTIONS, iterations=2)
    folder = distil_folder(tmp_path / "teacher", ["red apple"], tmp_path / "run", options)
    assert folder.card.steps == folder.card.recipe["steps"] == 2
    assert folder.card.noise_shape == (2, 4, 8, 8)
    assert folder.schedule.timesteps == (625, 312)
    assert (tmp_path / "run" / "samples-000002.png").exists()
    assert Generator.load(folder.path, engine="pytorch")("red apple", seed=7).seed == 7
