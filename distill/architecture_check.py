"""Tell whether a diffusers folder is a Stable Diffusion that can be distilled, from its configs.

Reads JSON alone, so that it also judges a hub's model before its weights are fetched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.architectures import SCHEDULE
from sidestep.errors import InvalidModel
from sidestep.schedule import NoiseSchedule

SUPPORTED = (
    "supported are Stable Diffusion 1.x and 2.x for text to image "
    "(CLIPTextModel, UNet2DConditionModel, AutoencoderKL)"
)
# Configs of UNets that want more than x_t, t and a text.
EXTRA_INPUTS = (
    "addition_embed_type",
    "class_embed_type",
    "encoder_hid_dim_type",
    "num_class_embeds",
    "time_cond_proj_dim",
)


def check_architecture(path: Path) -> None:
    """Raise InvalidModel, with what was found and what is supported, for any other model."""
    found = _found(path)
    if found:
        raise InvalidModel(f"{path} {found}; {SUPPORTED}")
    read_schedule(path)


def read_schedule(path: Path) -> dict[str, Any]:
    """Read the noise schedule's part of the teacher's scheduler config.

    Raises InvalidModel for a schedule that is none of DDPM's, and for a one-step generator's,
    which has t_init for its last step and teaches nothing.
    """
    file = part(path, "scheduler") / "scheduler_config.json"
    config = read_json(file)
    if config.get("trained_betas") is not None:
        raise InvalidModel(f"{file} is a one-step generator's; give the teacher it was made from")
    if config.get("rescale_betas_zero_snr"):
        raise InvalidModel(f"{file}: rescale_betas_zero_snr is not supported")
    schedule = {key: config[key] for key in SCHEDULE if key in config}
    try:
        NoiseSchedule.from_config(schedule)
    except InvalidModel as error:
        raise InvalidModel(f"{file}: {error}") from error
    return schedule


def part(path: Path, name: str) -> Path:
    """Return where a part of the teacher lies: a model of ours keeps its own in `teacher/`."""
    own = path / "teacher" / name
    return own if own.is_dir() else path / name


def read_json(path: Path, absent: dict[str, Any] | None = None) -> dict[str, Any]:
    """Read a JSON object; `absent` stands for a missing file. Raises InvalidModel naming it."""
    if absent is not None and not path.is_file():
        return absent
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidModel(f"{path} cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise InvalidModel(f"{path} is not a JSON object")
    return value


def _found(path: Path) -> str | None:
    """Say in which way `path` is another architecture."""
    index = read_json(path / "model_index.json", absent={})
    present = {name for name, kind in index.items() if kind not in (None, [None, None])}
    present |= (
        {child.name for child in path.iterdir() if child.is_dir()} if path.is_dir() else set()
    )
    if "unet" not in present and "transformer" in present:
        return f"has a transformer ({_class(index, 'transformer')}) for its UNet"
    if "prior" in present and "unet" not in present:
        return f"is a {index.get('_class_name', 'cascade')}"
    if "text_encoder_2" in present:
        return f"has two text encoders ({index.get('_class_name', 'SDXL')})"
    unet = read_json(part(path, "unet") / "config.json")
    vae = read_json(path / "vae" / "config.json")
    text = read_json(path / "text_encoder" / "config.json")
    return _other_classes(unet, vae, text) or _other_shapes(unet, vae, text)


def _other_classes(
    unet: Mapping[str, Any], vae: Mapping[str, Any], text: Mapping[str, Any]
) -> str | None:
    if (kind := unet.get("_class_name", "UNet2DConditionModel")) != "UNet2DConditionModel":
        return f"has a {kind} for its UNet"
    if (kind := vae.get("_class_name", "AutoencoderKL")) != "AutoencoderKL":
        return f"has a {kind} for its VAE"
    encoder = (text.get("architectures") or ["CLIPTextModel"])[0]
    family = text.get("model_type", "clip_text_model")
    if encoder != "CLIPTextModel" or family != "clip_text_model":
        return f"has a {encoder} ({family}) for its text encoder"
    return None


def _other_shapes(
    unet: Mapping[str, Any], vae: Mapping[str, Any], text: Mapping[str, Any]
) -> str | None:
    latents = vae.get("latent_channels", 4)
    if (read := unet.get("in_channels", 4)) != latents:
        return (
            f"has a UNet that reads {read} channels where latents have {latents} "
            "(inpainting, depth, editing or upscaling)"
        )
    for key in EXTRA_INPUTS:
        if unet.get(key) is not None:
            return f"has a UNet with an input of its own ({key} {unet[key]})"
    if unet.get("cross_attention_dim", 1280) != text.get("hidden_size", 512):
        return (
            f"has texts {text.get('hidden_size', 512)} wide and a UNet that reads texts "
            f"{unet.get('cross_attention_dim', 1280)} wide"
        )
    return None


def _class(index: Mapping[str, Any], name: str) -> str:
    kind = index.get(name)
    return str(kind[-1]) if isinstance(kind, list) and kind else "DiT"
