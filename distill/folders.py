"""Read teachers from, and write teachers and students to, folders in the diffusers layout."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler, UNet2DConditionModel
from safetensors import SafetensorError
from transformers import CLIPTextModel

from sidestep.errors import InvalidModel
from sidestep.files import write_json
from sidestep.model_folder import CARD, ModelCard, ModelFolder, write_card
from sidestep.schedule import NoiseSchedule

# Stable Diffusion's schedule, which the embedded teacher shares.
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
}


TRAINING = "training.json"  # how a teacher of ours was made; copied into its students' cards


@dataclass(frozen=True)
class Teacher:
    """A Stable-Diffusion-shaped model: networks, tokenizer's folder, scheduler's config."""

    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    tokenizer: Path
    schedule: Mapping[str, Any]

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

    Raises InvalidModel naming what is missing.
    """
    unet = _unet_folder(path)
    scheduler = unet.parent / "scheduler" / "scheduler_config.json"
    try:
        schedule = json.loads(scheduler.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidModel(f"{scheduler} cannot be read ({error})") from error
    return Teacher(
        text_encoder=_read(CLIPTextModel, path / "text_encoder"),
        unet=_read(UNet2DConditionModel, unet),
        vae=_read(AutoencoderKL, path / "vae"),
        tokenizer=path / "tokenizer",
        schedule={key: schedule[key] for key in SCHEDULE if key in schedule},
    )


def read_unet_config(path: Path) -> dict[str, Any]:
    """Read the config of a teacher's UNet without its weights; raises InvalidModel."""
    config = _unet_folder(path) / "config.json"
    try:
        values: dict[str, Any] = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidModel(f"{config} cannot be read ({error})") from error
    return values


def _unet_folder(path: Path) -> Path:
    own = path / "teacher"
    return own / "unet" if own.is_dir() else path / "unet"


def read_training(path: Path) -> dict[str, Any] | None:
    """Read how the teacher in `path` was made, from its own file or its student's card."""
    if (told := path / TRAINING).is_file():
        training: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
        return training
    if (path / CARD).is_file():
        return ModelFolder.open(path).card.recipe.get("teacher")
    return None


def write_teacher(out: Path, teacher: Teacher) -> None:
    """Write a teacher that `load_teacher` and diffusers' StableDiffusionPipeline open."""
    _write_shared(out, teacher)
    _save(teacher.unet, out / "unet")
    ddim = DDIMScheduler(
        **teacher.schedule, clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    ddim.save_pretrained(out / "scheduler")
    write_json(out / "model_index.json", _model_index("DDIMScheduler"))


def write_student(
    out: Path, teacher: Teacher, student: UNet2DConditionModel, card: ModelCard
) -> ModelFolder:
    """Write a whole model folder: the student, and its teacher's UNet beside it.

    A folder that stands at `out` already is replaced only when the new one is complete. The
    scheduler is one whose single step is t_init, so that a pipeline opened on this folder draws
    our picture with `num_inference_steps=1, guidance_scale=1`.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as name:
        new = Path(name) / out.name
        _write_shared(new, teacher)
        _save(student, new / "unet")
        schedule = NoiseSchedule.from_config(card.schedule)
        steps = schedule.init_timestep + 1
        EulerDiscreteScheduler(
            num_train_timesteps=steps,
            trained_betas=schedule.betas[:steps].tolist(),
            prediction_type=schedule.prediction_type,
            timestep_spacing="trailing",
            steps_offset=1,  # unused by trailing spacing, but pipelines warn about 0
        ).save_pretrained(new / "scheduler")
        write_json(new / "model_index.json", _model_index("EulerDiscreteScheduler"))
        _save(teacher.unet, new / "teacher" / "unet")
        ddim = DDIMScheduler(
            **teacher.schedule, clip_sample=False, set_alpha_to_one=False, steps_offset=1
        )
        ddim.save_pretrained(new / "teacher" / "scheduler")
        write_card(new, card)
        shutil.rmtree(out, ignore_errors=True)
        new.rename(out)
    return ModelFolder.open(out)


def _write_shared(out: Path, teacher: Teacher) -> None:
    _save(teacher.text_encoder, out / "text_encoder")
    _save(teacher.vae, out / "vae")
    shutil.copytree(teacher.tokenizer, out / "tokenizer", dirs_exist_ok=True)


def _save(network: Any, path: Path) -> None:
    """Write a network in fp16, without the path that it was read from."""
    copy.deepcopy(network).half().save_pretrained(path)
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)
    write_json(path / "config.json", config)


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


def _read(kind: Any, path: Path) -> Any:
    try:
        network = kind.from_pretrained(path, use_safetensors=True, local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InvalidModel(f"{path} cannot be read ({error})") from error
    return network.float().eval().requires_grad_(False)
