"""How a network is made ready for its passes changes what it costs and not what it computes."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from distill.folders import Teacher
from distill.options import DistillOptions
from distill.trained import Trained, prepare

OPTIONS = DistillOptions(precision="fp32", learning_rate=1e-3)


def trained_once(teacher: Teacher, options: DistillOptions) -> tuple[torch.Tensor, Trained]:
    """Predict and take one update towards the prediction 0; returns the prediction."""
    unet = copy.deepcopy(teacher.unet).train().requires_grad_(True)
    network = Trained(prepare(unet, options), options)
    source = torch.Generator().manual_seed(0)
    x_t, text = (torch.randn(s, generator=source) for s in ((2, 4, 8, 8), (2, 12, 16)))
    prediction = network(x_t, torch.tensor([20, 979]), text)
    network.backward(prediction.square().sum(), last=True)
    network.update()
    return prediction, network


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan, 9000.0])
@pytest.mark.parametrize("clip", [False, True])
def test_no_gradient_in_fp16_makes_weights_that_are_no_numbers(
    tiny_teacher: Teacher, value: float, clip: bool
) -> None:
    """As fp16 holds neither 1e5 nor the mean of squares of 9,000."""
    options = replace(OPTIONS, precision="fp16-weights")
    unet = copy.deepcopy(tiny_teacher.unet).train().requires_grad_(True)
    network = Trained(prepare(unet, options), options, clip=clip)
    weight = unet.conv_in.weight
    for gradient in (value, 200.0):
        weight.grad = torch.full_like(weight, gradient)
        before = weight.detach().clone()
        network.update()
    assert torch.isfinite(weight).all()
    assert (weight < before).all()  # it learns on


@pytest.mark.parametrize(
    "change",
    [{"recompute": True}, pytest.param({"compile": True}, marks=pytest.mark.slow)],
    ids=["recompute", "compile"],
)
def test_recomputing_and_compiling_change_no_result(
    tiny_teacher: Teacher, change: dict[str, bool]
) -> None:
    plain, one = trained_once(tiny_teacher, OPTIONS)
    prepared, two = trained_once(tiny_teacher, replace(OPTIONS, **change))
    torch.testing.assert_close(prepared, plain, rtol=1e-4, atol=1e-5)
    for a, b in zip(one.unet.parameters(), two.unet.parameters(), strict=True):
        # A step of Adam's first update is the learning rate, whatever the gradient's size is.
        assert (a - b).abs().median() < 1e-6
        assert (a - b).abs().max() <= 2.1 * OPTIONS.learning_rate
