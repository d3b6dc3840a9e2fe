"""Floating-point operations of a model's networks, counted on PyTorch's meta device.

No weight is read: the configs of a model folder are enough. A multiplication with an addition
counts as two operations; only matrix products, convolutions and attention count.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

from sidestep.model_folder import WEIGHTS, ModelFolder

STAGES = ("text", "unet", "decoder")


def count_flops(folder: ModelFolder) -> dict[str, int]:
    """Count the operations of one picture in each stage of a model folder."""
    text, unet, vae = read_networks(folder)
    counted = network_flops(text, unet, vae, folder.card.tokens, folder.card.latent_shape)
    return {**counted, "unet": folder.card.steps * counted["unet"]}


def read_networks(folder: ModelFolder) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Build the text encoder, UNet and decoder that a folder's configs tell, on meta."""
    words, *pictures = (_config(folder.path / name) for name in WEIGHTS[folder.decoder])
    with torch.device("meta"):
        text = CLIPTextModel(CLIPTextConfig(**words))
        unet, vae = (_diffusers_network(config) for config in pictures)
    return text, unet, vae


def network_flops(
    text: nn.Module,
    unet: nn.Module,
    vae: nn.Module,
    tokens: int,
    latent_shape: tuple[int, int, int],
) -> dict[str, int]:
    """Count the operations of three networks that are on the meta device, for one picture."""
    ids = torch.zeros((1, tokens), dtype=torch.int64, device="meta")
    latents = torch.zeros((1, *latent_shape), device="meta")
    with torch.no_grad():
        with FlopCounterMode(display=False) as of_text:
            states = text(ids).last_hidden_state  # [1, L, D]
        with FlopCounterMode(display=False) as of_unet:
            unet(latents, torch.zeros((), device="meta"), states)
        with FlopCounterMode(display=False) as of_decoder:
            vae.decode(latents)  # type: ignore[operator]  # diffusers' networks are untyped
    counters = (of_text, of_unet, of_decoder)
    return {s: int(c.get_total_flops()) for s, c in zip(STAGES, counters, strict=True)}


def _config(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return values


def _diffusers_network(config: dict[str, Any]) -> nn.Module:
    network: nn.Module = getattr(diffusers, config["_class_name"]).from_config(config)
    return network
