"""What a distillation will do and need, before it starts."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from distill.adversarial import adversarial_losses
from distill.architecture_check import check_architecture, part, read_json
from distill.losses import NoisyBatch, generator_losses, one_step
from distill.options import DistillOptions
from distill.precision import PRECISIONS
from distill.processes import current
from sidestep.schedule import NoiseSchedule

GIB = 2**30
TOKENS = 77  # of a prompt; the embedded model's fewer cost next to nothing either way


def describe_plan(teacher: Path, prompts: int, options: DistillOptions) -> str:
    """Describe the resolved settings as JSON and the memory per device as a table.

    Activations are counted by running the generator's phase, the larger, without values.
    """
    settings = json.dumps(asdict(options), indent=2)
    rows = memory_bytes(teacher, options)
    table = [f"{name:<34}{size / GIB:8.2f} GiB" for name, size in rows.items()]
    total = f"{'together, per device':<34}{sum(rows.values()) / GIB:8.2f} GiB"
    return "\n".join([settings, f"{prompts:,} prompts", *table, total])


def memory_bytes(teacher: Path, options: DistillOptions) -> dict[str, int]:
    """Estimate the device memory of each part in bytes; raises InvalidModel."""
    check_architecture(teacher)
    config = read_json(part(teacher, "unet") / "config.json")
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
    precision, processes = PRECISIONS[options.precision], current()
    weights = sum(weight.numel() for weight in unet.parameters())
    shards = processes.count if options.parallel == "fsdp" else 1
    size = weights * precision.weights.itemsize // shards
    rows = {
        "generator, fake score and teacher": 3 * size,
        "Adam's second moments": 2 * size,
        "gradients of one network": size,
        "average": weights * 4 // shards if options.ema_half_life else 0,
        "activations": _activations(unet, options),
    }
    if precision.autocast is not None:
        # Autocast keeps rounded copies of the weights of the networks in one backward pass.
        rows["weights rounded by autocast"] = 3 * weights * precision.autocast.itemsize
    return rows


def _activations(unet: UNet2DConditionModel, options: DistillOptions) -> int:
    """Count what the generator's backward pass keeps, on the meta device: bytes."""
    precision = PRECISIONS[options.precision]
    nn.Module.to(unet, dtype=precision.autocast or precision.weights)
    unet.train()
    if options.recompute:
        unet.enable_gradient_checkpointing()
    share = len(current().passes(options.batch, options.per_device_batch)[0])
    size, width = unet.config.sample_size, unet.config.cross_attention_dim
    with torch.device("meta"):
        latents = torch.randn(share, unet.config.in_channels, size, size)
        t = torch.zeros(share, dtype=torch.int64)
        text = torch.randn(share, TOKENS, width)
        null_text = torch.randn(1, TOKENS, width)
    weights = {_storage(weight) for weight in unet.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in weights:
            kept[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    def predict(x_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
        prediction: Tensor = unet(x_t.to(unet.dtype), t, text.to(unet.dtype)).sample
        return prediction

    def critic(x_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """Judge as `Scoring.critic`; what the upper half kept is let go with its output."""
        lower: dict[int, int] = {}
        features: list[Tensor] = []

        def in_the_middle(block: nn.Module, arguments: object, output: Tensor) -> None:
            features.append(output)
            lower.update(kept)

        hook = unet.mid_block.register_forward_hook(in_the_middle)
        predict(x_t, t, text)
        hook.remove()
        kept.clear()
        kept.update(lower)
        return features[0].mean(1)

    schedule = NoiseSchedule.from_config({}, init_timestep=options.init_timestep)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        x_g = one_step(predict, schedule, latents, text)
        batch = NoisyBatch(x_g, latents, t, text, null_text)
        judged = adversarial_losses(critic, schedule, batch) if options.real_images else None
        graph = generator_losses(
            predict, predict, schedule, batch, options.guidance, adversarial=judged
        ).sum()
    assert graph.requires_grad  # which holds what was kept until here
    return sum(kept.values())


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
