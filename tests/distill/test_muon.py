"""Muon's updates are orthogonal, and only hidden matrices get them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from distill.muon import Muon, hidden_and_rest, orthogonal


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 24)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    (result,) = orthogonal([1e-3 * matrix])
    values = torch.linalg.svdvals(result)
    assert float(values.min()) > 0.3
    assert float(values.max()) < 1.4


def test_matrices_of_several_sizes_are_each_stepped_as_alone() -> None:
    """Against the iteration as it is written: x <- a x + (b G + c G^2) x with G = x x^T."""
    source = torch.Generator().manual_seed(0)
    shapes = [(8, 30), (30, 8), (8, 8), (12, 13), (8, 9)]
    matrices = [torch.randn(shape, generator=source) for shape in shapes]
    matrices.append(torch.zeros(8, 9))
    for matrix, result in zip(matrices, orthogonal(matrices), strict=True):
        x = matrix.double() / (matrix.double().norm() + 1e-7)
        for _ in range(5):
            gram = x @ x.mT
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        torch.testing.assert_close(result.double(), x, atol=1e-3, rtol=0)


def test_a_matrix_of_low_rank_stays_bounded() -> None:
    matrix = torch.ones(48, 200)
    matrix[0] += 1e-6
    (result,) = orthogonal([matrix])
    assert float(torch.linalg.svdvals(result).max()) < 1.4


def test_an_update_is_as_large_as_adamws() -> None:
    weight = nn.Parameter(torch.zeros(32, 8, 3, 3))
    optimizer = Muon([weight], lr=0.1)
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.1 * 0.2, rel=0.3)
    assert float((weight.detach() * weight.grad).sum()) < 0


def test_its_steps_are_nesterovs_with_decay() -> None:
    source = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(6, 10, generator=source))
    optimizer = Muon([weight], lr=0.1, momentum=0.9, weight_decay=0.5)
    wanted, momentum = weight.detach().clone(), torch.zeros(6, 10)
    for gradient in torch.randn(3, 6, 10, generator=source):
        weight.grad = gradient
        optimizer.step()
        momentum = 0.9 * momentum + 0.1 * gradient
        (direction,) = orthogonal([0.1 * gradient + 0.9 * momentum])
        wanted = (1 - 0.1 * 0.5) * wanted - 0.1 * 0.2 * 10**0.5 * direction
    torch.testing.assert_close(weight.detach(), wanted)


def test_it_learns_a_linear_map() -> None:
    source = torch.Generator().manual_seed(0)
    x, wanted = torch.randn(64, 8, generator=source), torch.randn(4, 8, generator=source)
    layer = nn.Linear(8, 4)
    optimizers = hidden_and_rest([layer], lr=0.1)
    losses = []
    for _ in range(200):
        loss = (layer(x) - x @ wanted.T).square().mean()
        loss.backward()
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 20


def test_only_hidden_matrices_go_to_muon() -> None:
    network = nn.ModuleDict(
        {
            "conv_in": nn.Conv2d(4, 8, 3),
            "inner": nn.Conv2d(8, 8, 3),
            "conv_out": nn.Conv2d(8, 4, 3),
            "norm": nn.GroupNorm(2, 8),
            "embeddings": nn.Embedding(10, 8),
        }
    )
    optimizers = hidden_and_rest([network], lr=1e-3)
    (hidden,) = optimizers["muon"].param_groups[0]["params"]
    assert hidden is network["inner"].weight
    assert len(optimizers["adamw"].param_groups[0]["params"]) == 8


def test_what_is_frozen_is_in_no_optimizer() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[0].requires_grad_(False)
    groups = [o.param_groups[0]["params"] for o in hidden_and_rest([network], lr=0.1).values()]
    assert [len(group) for group in groups] == [1, 1]
