"""Teachers of other architectures are refused in one line; v-prediction is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from distill.folders import Teacher, load_teacher, write_student, write_teacher
from sidestep.errors import InvalidModel
from sidestep.model_folder import ModelCard


@pytest.fixture
def folder(tiny_teacher: Teacher, tmp_path: Path) -> Path:
    write_teacher(tmp_path / "teacher", tiny_teacher)
    return tmp_path / "teacher"


def edit(file: Path, **changes: Any) -> None:
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, **changes}))


def config(part: str, **changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / part / "config.json", **changes)


def index(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "model_index.json", **changes)


def schedule(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "scheduler" / "scheduler_config.json", **changes)


def dit(folder: Path) -> None:
    (folder / "unet").rename(folder / "transformer")
    values = json.loads((folder / "model_index.json").read_text())
    del values["unet"]
    values["transformer"] = ["diffusers", "SD3Transformer2DModel"]
    (folder / "model_index.json").write_text(json.dumps(values))


def without(part: str) -> Callable[[Path], None]:
    return lambda folder: (folder / part).unlink()


OTHERS = {
    "SDXL": (
        index(
            _class_name="StableDiffusionXLPipeline",
            text_encoder_2=["transformers", "CLIPTextModelWithProjection"],
        ),
        r"has two text encoders \(StableDiffusionXLPipeline\)",
    ),
    "SDXL without its index": (
        lambda folder: (
            (folder / "model_index.json").unlink(),
            (folder / "text_encoder_2").mkdir(),
        ),
        "has two text encoders",
    ),
    "SD3": (dit, r"has a transformer \(SD3Transformer2DModel\) for its UNet"),
    "inpainting": (config("unet", in_channels=9), "reads 9 channels where latents have 4"),
    "unCLIP": (
        config("unet", class_embed_type="projection"),
        r"an input of its own \(class_embed_type projection\)",
    ),
    "refiner": (
        config("unet", addition_embed_type="text_time"),
        r"an input of its own \(addition_embed_type text_time\)",
    ),
    "video": (
        config("unet", _class_name="UNet3DConditionModel"),
        "has a UNet3DConditionModel for its UNet",
    ),
    "VQ": (config("vae", _class_name="VQModel"), "has a VQModel for its VAE"),
    "T5": (
        config("text_encoder", architectures=["T5EncoderModel"], model_type="t5"),
        r"has a T5EncoderModel \(t5\) for its text encoder",
    ),
    "mixed": (config("text_encoder", hidden_size=32), "texts 32 wide and a UNet that reads texts"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_architecture_is_named_with_what_is_supported(folder: Path, other: str) -> None:
    change, words = OTHERS[other]
    change(folder)
    with pytest.raises(InvalidModel, match=words) as refused:
        load_teacher(folder)
    message = str(refused.value)
    assert message.startswith(str(folder))
    assert "supported are Stable Diffusion 1.x and 2.x" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (schedule(prediction_type="sample"), "prediction_type is 'sample'"),
        (schedule(beta_schedule="squaredcos_cap_v2"), "beta_schedule is 'squaredcos_cap_v2'"),
        (schedule(rescale_betas_zero_snr=True), "rescale_betas_zero_snr is not supported"),
        (without("unet/config.json"), "unet/config.json cannot be read"),
        (without("unet/diffusion_pytorch_model.safetensors"), "unet cannot be read"),
        (without("scheduler/scheduler_config.json"), "scheduler_config.json cannot be read"),
    ],
)
def test_what_is_missing_or_unknown_is_named(
    folder: Path, change: Callable[[Path], None], words: str
) -> None:
    change(folder)
    with pytest.raises(InvalidModel, match=words) as refused:
        load_teacher(folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "file", ["text_encoder/model.safetensors", "vae/diffusion_pytorch_model.safetensors"]
)
def test_a_missing_tensor_is_not_drawn_at_random(folder: Path, file: str) -> None:
    weights = load_file(folder / file)
    weights.pop(next(name for name in sorted(weights) if name.endswith("weight")))
    save_file(weights, folder / file, metadata={"format": "pt"})
    with pytest.raises(InvalidModel, match="lacks 1 tensors, such as"):
        load_teacher(folder)


def test_the_hubs_older_names_of_tensors_are_read(folder: Path, tiny_teacher: Teacher) -> None:
    """Text encoders on the hub name tensors text_model.*, and carry their position ids."""
    file = folder / "text_encoder" / "model.safetensors"
    weights = {f"text_model.{name}": tensor for name, tensor in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})
    loaded = load_teacher(folder).text_encoder.state_dict()
    wanted = tiny_teacher.text_encoder.state_dict()
    assert all(loaded[name].equal(tensor) for name, tensor in wanted.items())


def test_v_prediction_comes_back_from_teachers_and_students(
    tiny_teacher: Teacher, tmp_path: Path
) -> None:
    values = {**tiny_teacher.schedule, "prediction_type": "v_prediction"}
    teacher = replace(tiny_teacher, schedule=values)
    write_teacher(tmp_path / "teacher", teacher)
    assert load_teacher(tmp_path / "teacher").schedule == values
    card = ModelCard(
        name="v",
        latent_shape=teacher.latent_shape,
        image_size=teacher.image_size,
        tokens=teacher.tokens,
        schedule={**values, "init_timestep": 625},
    )
    folder = write_student(tmp_path / "student", teacher, teacher.unet, card)
    assert folder.schedule.prediction_type == "v_prediction"
    assert load_teacher(folder.path).schedule == values
    shipped = json.loads((folder.path / "scheduler" / "scheduler_config.json").read_text())
    assert shipped["prediction_type"] == "v_prediction"
