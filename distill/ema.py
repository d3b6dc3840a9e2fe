"""Exponential moving averages of network weights."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from distill.shards import local

Network = TypeVar("Network", bound=nn.Module)


def average_of(network: Network) -> Network:
    """Copy a network as the start of its own average: no gradients, evaluation mode."""
    return copy.deepcopy(network).eval().requires_grad_(False)


@torch.no_grad()
def update(average: nn.Module, network: nn.Module, *, beta: float) -> None:
    """average <- beta * average + (1 - beta) * network; beta = 0 copies; the average is fp32."""
    weights = [local(weight).float() for weight in network.parameters()]
    torch._foreach_lerp_([local(mean) for mean in average.parameters()], weights, 1.0 - beta)


def half_life_beta(images_seen: int, *, batch: int, half_life_images: int) -> float:
    """Compute the decay of one step of `batch` images: beta = 0.5^(batch / h) (section 4).

    h = min(half_life_images, 0.05 * images seen before this step), so that the average follows
    quickly at first; the first step has beta = 0.
    """
    half_life = min(half_life_images, 0.05 * images_seen)
    return 0.5 ** (batch / half_life) if half_life > 0 else 0.0
