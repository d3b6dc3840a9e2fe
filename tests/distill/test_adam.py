"""The optimizer against torch's own, bit for bit."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from distill.adam import AdamWithoutMomentum
from distill.checkpoints import Checkpoint

SHAPES = ((), (1,), (7,), (13, 5), (8, 4, 3, 3), (3, 1, 2))


class Weights(nn.Module):
    """Weights of many shapes, the last of which has no gradient in some steps."""

    def __init__(self) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(0)
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(shape, generator=source)) for shape in SHAPES
        )

    def set_gradients(self, step: int) -> None:
        """Gradients of 1e-12 to 1e5, some of them 0 as where nan was replaced."""
        source = torch.Generator().manual_seed(step)
        for index, weight in enumerate(self.weights):
            scale = 10.0 ** float(torch.randint(-12, 6, (), generator=source))
            gradient = torch.randn(weight.shape, generator=source) * scale
            gradient[torch.rand(weight.shape, generator=source) < 0.1] = 0.0
            absent = index == len(SHAPES) - 1 and step % 3 == 1
            weight.grad = None if absent else gradient


def ours(model: Weights) -> AdamWithoutMomentum:
    return AdamWithoutMomentum(model.parameters(), lr=1e-3)


def torchs(model: Weights) -> torch.optim.Adam:
    return torch.optim.Adam(
        model.parameters(), lr=1e-3, betas=(0.0, 0.999), eps=1e-8, foreach=False, fused=False
    )


def train(model: Weights, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        model.set_gradients(step)
        optimizer.step()


def same_bits(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.detach().view(torch.int32), b.detach().view(torch.int32))


def test_a_hundred_steps_equal_torchs_adam_bit_for_bit() -> None:
    model = Weights()
    reference = copy.deepcopy(model)
    mine, theirs = ours(model), torchs(reference)
    for step in range(1, 101):
        train(model, mine, range(step, step + 1))
        train(reference, theirs, range(step, step + 1))
        for a, b in zip(model.weights, reference.weights, strict=True):
            assert same_bits(a, b), step
    for a, b in zip(model.weights, reference.weights, strict=True):
        assert same_bits(mine.state[a]["exp_avg_sq"], theirs.state[b]["exp_avg_sq"])
        assert mine.state[a]["step"] == theirs.state[b]["step"]


def test_no_first_moment_is_stored() -> None:
    model = Weights()
    optimizer = ours(model)
    train(model, optimizer, range(1, 3))
    assert {key for state in optimizer.state.values() for key in state} == {"step", "exp_avg_sq"}


@pytest.mark.parametrize("before", [ours, torchs])
def test_a_checkpoint_goes_on_bit_for_bit(tmp_path: Path, before: type) -> None:
    """Also one that torch's Adam wrote, whose `exp_avg` is ignored."""
    unbroken = Weights()
    train(unbroken, ours(unbroken), range(1, 21))

    stopped = Weights()
    optimizer = before(stopped)
    train(stopped, optimizer, range(1, 11))
    path = tmp_path / "state.safetensors"
    Checkpoint(path, {"net": stopped}, {"net": optimizer}, {}).save(10)

    resumed = Weights()
    fresh = ours(resumed)
    assert Checkpoint(path, {"net": resumed}, {"net": fresh}, {}).load() == 10
    assert all("exp_avg" not in state for state in fresh.state.values())
    train(resumed, fresh, range(11, 21))
    for a, b in zip(unbroken.weights, resumed.weights, strict=True):
        assert same_bits(a, b)


def test_an_update_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parted = Weights(), Weights()
    train(whole, ours(whole), range(1, 4))
    monkeypatch.setattr("distill.adam.PART", 8)  # one ends in each of the larger weights
    train(parted, ours(parted), range(1, 4))
    for a, b in zip(whole.weights, parted.weights, strict=True):
        assert same_bits(a, b)
