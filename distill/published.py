"""The authors' published checkpoints, turned into model folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTextModel

from distill.architecture_check import check_architecture, part, read_json, read_schedule
from distill.architectures import TOKENS
from distill.folders import read_network, save_network, write_student_scheduler
from distill.guidance import strategy
from distill.pickles import PickledUNet, read_checkpoint
from sidestep.errors import InvalidModel
from sidestep.files import atomic_folder, check_new_folder, sha256
from sidestep.model_folder import ModelCard, ModelFolder, write_card
from sidestep.schedule import NoiseSchedule
from sidestep.tokenizer import PromptTokenizer

INIT_TIMESTEP = 625
LICENCES = {
    "UNet (SiD-LSG, UT-Austin-PML)": "Apache-2.0",
    "VAE, text encoder and the teacher it was distilled from (Stable Diffusion)": "OpenRAIL-M",
}
# Configs that no tensor's shape shows, and that change what the same weights draw.
UNSEEN = ("sample_size", "attention_head_dim", "norm_num_groups")


@dataclass(frozen=True)
class Published:
    """A published file: its teacher, the guidance scale of LSG and thousands of images seen."""

    teacher: str
    kappa: float
    images_thousand: int


# Names and counts: the hub's UT-Austin-PML/SiD-LSG and the README of mingyuanzhou/SiD-LSG. The
# counts are the last numbers of the names, in units of 1,000 images. All predict noise.
PUBLISHED = {
    "batch512_cfg1.51.51.5_t625_8806_v2.pkl": Published("sd15", 1.5, 8_806),
    "batch512_cfg1.51.51.5_t625_18789_v2.pkl": Published("sd15", 1.5, 18_789),
    "batch512_cfg222_t625_4812_v2.pkl": Published("sd15", 2, 4_812),
    "batch512_cfg333_t625_6349_v2.pkl": Published("sd15", 3, 6_349),
    "batch512_cfg4.54.54.5_t625_8380_v2.pkl": Published("sd15", 4.5, 8_380),
    "batch512_sd21_cfg1.51.51.5_t625_9728_v2.pkl": Published("sd21-base", 1.5, 9_728),
    "batch512_sd21_cfg222_t625_8482_v2.pkl": Published("sd21-base", 2, 8_482),
    "batch512_sd21_cfg333_t625_6144_v2.pkl": Published("sd21-base", 3, 6_144),
    "batch512_sd21_cfg4.54.54.5_t625_7168_v2.pkl": Published("sd21-base", 4.5, 7_168),
}


def import_checkpoint(checkpoint: Path, base: Path, out: Path, *, name: str) -> ModelFolder:
    """Write a model folder in fp16: the pickle's UNet, and all the rest from the teacher `base`.

    Executes nothing in the pickle (`distill.pickles`). Raises InvalidModel for a pickle that is
    none of the authors', a base that does not fit it, or an `out` that cannot be written.
    """
    check_architecture(base)
    schedule = {**read_schedule(base), "init_timestep": INIT_TIMESTEP}
    PromptTokenizer(base / "tokenizer", length=TOKENS)  # raises if it is not usable
    unet = _empty_unet(part(base, "unet") / "config.json")
    check_new_folder(out, _size_bytes(unet, base))
    pickled = read_checkpoint(checkpoint)
    if difference := _difference(pickled, unet, schedule, PUBLISHED.get(checkpoint.name)):
        raise InvalidModel(f"{base} does not fit {checkpoint}: {difference}")
    recipe = _recipe(checkpoint)
    with atomic_folder(out) as new, tqdm(total=3, desc="unet", unit="network") as progress:
        halves = {key: tensor.to(torch.float16) for key, tensor in pickled.weights.items()}
        del pickled  # only now: its tensors lie in the pickle's bytes
        unet.load_state_dict(halves, assign=True)
        save_network(unet, new / "unet")
        size = unet.config.sample_size
        del halves, unet
        progress.update()
        text = _copy(CLIPTextModel, base / "text_encoder", new / "text_encoder", progress)
        vae = _copy(AutoencoderKL, base / "vae", new / "vae", progress)
        shutil.copytree(base / "tokenizer", new / "tokenizer")
        write_student_scheduler(new, NoiseSchedule.from_config(schedule))
        size_px = size * 2 ** (len(vae.block_out_channels) - 1)
        card = ModelCard(
            name=name,
            latent_shape=(vae.latent_channels, size, size),
            image_size=(size_px, size_px),
            tokens=text.max_position_embeddings,
            schedule=schedule,
            recipe=recipe,
            licences=LICENCES,
        )
        write_card(new, card)
    return ModelFolder.open(out)


def _empty_unet(file: Path) -> UNet2DConditionModel:
    """Build a UNet that has shapes and no weights."""
    config = read_json(file)
    try:
        with torch.device("meta"):
            return UNet2DConditionModel.from_config(config)
    except (TypeError, ValueError) as error:
        raise InvalidModel(f"{file} is no UNet's config ({error})") from error


def _copy(kind: Any, source: Path, out: Path, progress: tqdm[Any]) -> Any:
    """Copy a network in fp16, under today's names of its tensors; returns its config."""
    progress.set_description(out.name)
    network = read_network(kind, source).half()
    save_network(network, out)
    progress.update()
    return network.config


def _difference(
    pickled: PickledUNet,
    unet: UNet2DConditionModel,
    schedule: Mapping[str, Any],
    known: Published | None,
) -> str | None:
    """Say where the base's UNet is not the one the weights were made for, with both sides."""
    if told := _first_difference(pickled.weights, unet):
        return f"{told} (made from {known.teacher})" if known else told
    for key in UNSEEN:
        theirs, ours = pickled.config.get(key), unet.config[key]
        if key in pickled.config and json.dumps(theirs) != json.dumps(ours):
            return f"{key} is {theirs} in the checkpoint and {ours} in the base"
    if known and (prediction := schedule.get("prediction_type", "epsilon")) != "epsilon":
        return f"the checkpoint predicts epsilon and the base {prediction}"
    return None


def _first_difference(weights: Mapping[str, Tensor], unet: nn.Module) -> str | None:
    wanted = unet.state_dict()
    for key, tensor in wanted.items():
        if key not in weights:
            return f"{key} {list(tensor.shape)} is not in the checkpoint"
        if weights[key].shape != tensor.shape:
            found = list(weights[key].shape)
            return f"{key} is {found} in the checkpoint and {list(tensor.shape)} in the base"
    for key, tensor in weights.items():
        if key not in wanted:
            return f"{key} {list(tensor.shape)} is not in the base"
    return None


def _size_bytes(unet: nn.Module, base: Path) -> int:
    """Bound the new folder's size: the UNet in fp16, and the base's other weights as they are."""
    files = [*(base / "text_encoder").glob("*.safetensors"), *(base / "vae").glob("*.safetensors")]
    parameters = sum(parameter.numel() for parameter in unet.parameters())
    return 2 * parameters + sum(file.stat().st_size for file in files)


def _recipe(checkpoint: Path) -> dict[str, Any]:
    recipe: dict[str, Any] = {
        "method": "SiD-LSG",
        "checkpoint": checkpoint.name,
        "checkpoint_sha256": sha256(checkpoint),
    }
    if known := PUBLISHED.get(checkpoint.name):
        recipe |= {
            "base": known.teacher,  # `teacher` is how a teacher of ours was trained
            "guidance": asdict(strategy("lsg", known.kappa)),
            "batch": 512,
            "images_seen": 1000 * known.images_thousand,
        }
    return recipe
