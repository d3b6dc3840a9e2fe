"""Weights that are sharded over processes (DTensor, by `fully_shard`), and those that are not.

Everything that asks for a whole tensor is called by all processes together.
"""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def local(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Gather a tensor from all processes."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, other: Tensor) -> Tensor:
    """Lay a whole tensor out in memory, or shard it, as `other` is.

    Fused optimizers go through a weight and its moments side by side, whatever their strides say.
    """
    if not isinstance(other, DTensor):
        return torch.empty_like(other, dtype=tensor.dtype, device=tensor.device).copy_(tensor)
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)


@torch.no_grad()
def whole_unet(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Gather a UNet, in fp32 on the CPU, frozen."""
    network = UNet2DConditionModel.from_config(dict(unet.config))
    network.load_state_dict({k: whole(v).float().cpu() for k, v in unet.state_dict().items()})
    frozen: UNet2DConditionModel = network.eval().requires_grad_(False)
    return frozen
