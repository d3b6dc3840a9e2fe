"""Read teachers from, and write teachers and students to, folders in the diffusers layout."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    UNet2DConditionModel,
)
from safetensors import SafetensorError
from torch import nn
from transformers import CLIPTextModel

from distill.architecture_check import check_architecture, part, read_schedule
from sidestep.engines.torch_module import quiet
from sidestep.errors import InvalidModel
from sidestep.files import atomic_folder, sha256, write_json
from sidestep.model_folder import CARD, HELD_OUT, ModelCard, ModelFolder, write_card
from sidestep.schedule import NoiseSchedule

TRAINING = "training.json"  # how a teacher of ours was made; copied into its students' cards


@dataclass(frozen=True)
class Teacher:
    """A Stable-Diffusion-shaped model: networks, tokenizer's folder, scheduler's config.

    held_out: prompts that its training never saw, which its students' must not see either
    """

    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    tokenizer: Path
    schedule: Mapping[str, Any]
    held_out: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """The text's length L."""
        return int(self.text_encoder.config.max_position_embeddings)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(4, h, w) at the size the UNet was trained for."""
        size = self.unet.config.sample_size
        return int(self.unet.config.in_channels), size, size

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels: the latents times the autoencoder's factor."""
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        return self.latent_shape[1] * factor, self.latent_shape[2] * factor


def load_teacher(path: Path) -> Teacher:
    """Read a diffusers folder, or the teacher that a sidestep model carries in `teacher/`.

    Raises InvalidModel naming what is missing, or what another architecture was found.
    """
    check_architecture(path)
    return Teacher(
        text_encoder=read_network(CLIPTextModel, path / "text_encoder"),
        unet=read_network(UNet2DConditionModel, part(path, "unet")),
        vae=read_network(AutoencoderKL, path / "vae"),
        tokenizer=path / "tokenizer",
        schedule=read_schedule(path),
        held_out=read_held_out(path),
    )


def read_held_out(path: Path) -> tuple[str, ...]:
    """Read the prompts that the teacher in `path` never saw; none where it does not tell."""
    told = path / HELD_OUT
    return tuple(told.read_text(encoding="utf-8").splitlines()) if told.is_file() else ()


def teacher_of(folder: ModelFolder) -> Path:
    """Find the folder whose teacher a model was distilled from.

    That is its own or, of a companion (`export.companion`), the one that it shares weights with.
    """
    beside = {Path(file).parts[1] for file in folder.card.onnx_shares if file.startswith("../")}
    return folder.path.parent / beside.pop() if beside else folder.path


def teacher_hash(path: Path) -> str:
    """Hash every file of a teacher that its pictures depend on, the scheduler aside."""
    folders = [path / "text_encoder", part(path, "unet"), path / "vae"]
    files = [file for folder in folders for file in sorted(folder.iterdir())]
    files += [path / "tokenizer" / name for name in ("vocab.json", "merges.txt")]
    parts = [f"{file.name}:{sha256(file)}" for file in files if file.is_file()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def weights_hash(network: nn.Module) -> str:
    """Hash a network's weights; 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for weight in network.state_dict().values():
        digest.update(weight.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def read_training(path: Path) -> dict[str, Any] | None:
    """Read how the teacher in `path` was made, from its own file or its student's card."""
    if (told := path / TRAINING).is_file():
        training: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
        return training
    if (path / CARD).is_file():
        return ModelFolder.open(path).card.recipe.get("teacher")
    return None


def write_teacher(out: Path, teacher: Teacher) -> None:
    """Write a teacher that `load_teacher` and diffusers' StableDiffusionPipeline open.

    A folder that stands at `out` already is replaced only when the new one is complete.
    """
    with atomic_folder(out) as new:
        _write_shared(new, teacher)
        _save(teacher.unet, new / "unet")
        write_teacher_scheduler(new, teacher.schedule)


def write_student(
    out: Path, teacher: Teacher, student: UNet2DConditionModel, card: ModelCard
) -> ModelFolder:
    """Write a whole model folder: the student, and its teacher's UNet beside it.

    A folder that stands at `out` already is replaced only when the new one is complete.
    """
    with atomic_folder(out) as new:
        _write_shared(new, teacher)
        _save(student, new / "unet")
        write_student_scheduler(new, NoiseSchedule.from_config(card.schedule, steps=card.steps))
        _save(teacher.unet, new / "teacher" / "unet")
        teacher_scheduler(teacher.schedule).save_pretrained(new / "teacher" / "scheduler")
        write_card(new, card)
    return ModelFolder.open(out)


def teacher_scheduler(schedule: Mapping[str, Any]) -> DDIMScheduler:
    """Build the scheduler with which a teacher draws its pictures in many steps."""
    return DDIMScheduler(**schedule, clip_sample=False, set_alpha_to_one=False, steps_offset=1)


def write_teacher_scheduler(out: Path, schedule: Mapping[str, Any]) -> None:
    """Write the scheduler with which a pipeline draws a teacher's pictures in many steps."""
    teacher_scheduler(schedule).save_pretrained(out / "scheduler")
    write_json(out / "model_index.json", _model_index("DDIMScheduler"))


def write_student_scheduler(out: Path, schedule: NoiseSchedule) -> None:
    """Write a scheduler whose first step is t_init.

    A pipeline opened on the folder then draws our picture with `num_inference_steps=1,
    guidance_scale=1`. Several steps need `timesteps=[625, 312]` (`NoiseSchedule.timesteps`) and
    `latents`, the first noise times sigma_init: LCM's scheduler puts x_g under fresh noise as our
    steps do, but it begins from latents of unit variance.
    """
    count = schedule.init_timestep + 1
    shared = {
        "num_train_timesteps": count,
        "trained_betas": schedule.betas[:count].tolist(),
        "prediction_type": schedule.prediction_type,
        "steps_offset": 1,  # unused by both, but pipelines warn about 0
    }
    if schedule.steps == 1:
        scheduler = EulerDiscreteScheduler(**shared, timestep_spacing="trailing")
    else:  # at this scaling what the network predicts counts alone, and not its input
        scheduler = LCMScheduler(**shared, original_inference_steps=count, timestep_scaling=1e6)
    scheduler.save_pretrained(out / "scheduler")
    write_json(out / "model_index.json", _model_index(type(scheduler).__name__))


def read_network(kind: Any, path: Path) -> Any:
    """Read a network in fp32, frozen, from safetensors alone; InvalidModel names what is wrong."""
    try:
        network, report = kind.from_pretrained(
            path,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **quiet(kind),
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        told = " ".join(str(error).split())
        raise InvalidModel(f"{path} cannot be read ({told})") from error
    if missing := sorted(report["missing_keys"]):
        raise InvalidModel(f"{path} lacks {len(missing)} tensors, such as {missing[0]}")
    return network.float().eval().requires_grad_(False)


def save_network(network: Any, path: Path) -> None:
    """Write a network as it is, without the path that it was read from."""
    network.save_pretrained(path)
    for file in path.glob("*.safetensors"):
        file.chmod(0o644)  # safetensors lets its writer alone read them
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)
    write_json(path / "config.json", config)


def _write_shared(out: Path, teacher: Teacher) -> None:
    _save(teacher.text_encoder, out / "text_encoder")
    _save(teacher.vae, out / "vae")
    shutil.copytree(teacher.tokenizer, out / "tokenizer", dirs_exist_ok=True)
    if teacher.held_out:
        (out / HELD_OUT).write_text("\n".join(teacher.held_out) + "\n", encoding="utf-8")


def _save(network: Any, path: Path) -> None:
    """Write a copy in fp16."""
    save_network(copy.deepcopy(network).half(), path)


def _model_index(scheduler: str) -> dict[str, Any]:
    return {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
