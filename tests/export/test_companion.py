"""A companion draws what its student draws, with the weights of the model beside it."""

from __future__ import annotations

import copy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from export.companion import write_companion
from export.options import ExportOptions
from export.run import export_model
from sidestep.engines.onnx_runtime import OnnxRuntimeEngine
from sidestep.errors import InvalidModel
from sidestep.generator import Generator
from sidestep.model_folder import ONNX, ModelFolder, write_card
from sidestep.noise import latent_noise
from sidestep.pipeline.model_card import write_model_card

if TYPE_CHECKING:
    from distill.folders import Teacher


@pytest.fixture(scope="module")
def student(
    built_model: Path, tiny_teacher: Teacher, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Another student of the teacher of `built_model`, exported with shared weights."""
    from distill.folders import write_student

    unet = copy.deepcopy(tiny_teacher.unet)
    with torch.no_grad():
        unet.conv_out.weight.mul_(1.5)
    card = replace(ModelFolder.open(built_model).card, name="other")
    folder = write_student(
        tmp_path_factory.mktemp("students") / "other", tiny_teacher, unet.half().float(), card
    )
    export_model(folder, ExportOptions(share=True))
    return folder.path


def test_it_draws_what_its_student_draws(
    student: Path, tiny_model: ModelFolder, tmp_path: Path
) -> None:
    whole = ModelFolder.open(student)
    folder = write_companion(whole, tiny_model, tmp_path / "companion")
    folder.check()
    assert folder.card.weights == whole.card.weights != tiny_model.card.weights
    assert folder.card.name == "other"
    assert not list(folder.path.rglob("*.safetensors"))
    assert any(file.startswith("../tiny/vae/") for file in folder.card.onnx_shares)
    ids = np.ones((3, whole.card.tokens), np.int64)
    noise = latent_noise(range(3), whole.card.latent_shape)
    drawn = OnnxRuntimeEngine(folder)(ids, noise)
    np.testing.assert_array_equal(drawn, OnnxRuntimeEngine(whole)(ids, noise))
    assert np.abs(drawn.astype(int) - OnnxRuntimeEngine(tiny_model)(ids, noise)).max() > 8
    assert Generator.load(folder.path)("red apple", seed=3).data
    unet = (student / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size
    assert (folder.path / ONNX).stat().st_size > unet


def test_its_card_can_be_written_anew(
    student: Path, tiny_model: ModelFolder, tmp_path: Path
) -> None:
    """Figures and a README come to it, and what it and its teacher draw with stays known."""
    folder = write_companion(ModelFolder.open(student), tiny_model, tmp_path / "companion")
    figures = {"teacher_guidance": 2.0}
    again = write_card(folder.path, replace(folder.card, quality=figures))
    text = write_model_card(again).read_text()
    assert "diffusers opens" not in text
    assert "Bottom row: its teacher" in text  # which its neighbour has
    written = ModelFolder.open(folder.path)
    assert written.card.weights == folder.card.weights
    assert written.card.files.items() >= folder.card.files.items()
    written.check()
    assert Generator.load(folder.path, engine="onnx")("red apple", seed=3).data


def test_a_list_of_held_out_prompts_goes_with_it(
    student: Path, tiny_model: ModelFolder, tmp_path: Path
) -> None:
    other = ModelFolder.open(shutil.copytree(student, tmp_path / "other"))
    (other.path / "held-out.txt").write_text("crying cat\n")
    other = write_card(other.path, other.card)
    folder = write_companion(other, tiny_model, tmp_path / "companion")
    assert (folder.path / "held-out.txt").read_text() == "crying cat\n"
    assert folder.has("held-out.txt")


def test_its_teacher_is_its_neighbours(
    student: Path, tiny_model: ModelFolder, tmp_path: Path
) -> None:
    folder = write_companion(ModelFolder.open(student), tiny_model, tmp_path / "companion")
    from distill.folders import teacher_of

    assert teacher_of(folder).resolve() == tiny_model.path.resolve()
    assert teacher_of(tiny_model) == tiny_model.path


def test_a_damaged_neighbour_is_named(
    student: Path, tiny_model: ModelFolder, tmp_path: Path
) -> None:
    folder = write_companion(ModelFolder.open(student), tiny_model, tmp_path / "companion")
    weights = next(tiny_model.path.glob("vae/*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(InvalidModel, match=r"tiny/vae/.* does not match"):
        OnnxRuntimeEngine(folder)


def test_students_of_other_teachers_share_nothing(
    student: Path, tiny_model: ModelFolder, tmp_path: Path
) -> None:
    other = ModelFolder.open(shutil.copytree(student, tmp_path / "other"))
    (vae,) = [file for file in other.card.onnx_shares if file.startswith("vae/")]
    card = replace(tiny_model.card, files={**tiny_model.card.files, vae: "0" * 64})
    with pytest.raises(InvalidModel, match="is not that of"):
        write_companion(other, replace(tiny_model, card=card), tmp_path / "companion")
    with pytest.raises(InvalidModel, match="must lie beside"):
        write_companion(other, tiny_model, tmp_path / "elsewhere" / "companion")
