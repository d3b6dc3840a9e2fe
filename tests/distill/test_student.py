"""A student's folder belongs to what it was made from, and is left alone when nothing is new."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from distill.folders import Teacher, write_teacher
from distill.options import DistillOptions
from distill.student import distil_folder, identity_of
from sidestep.errors import InvalidTraining
from sidestep.files import write_bytes, write_json
from sidestep.model_folder import write_card

OPTIONS = DistillOptions(iterations=1, batch=2, precision="fp32")
PROMPTS = ["red apple", "blue heart"]


def test_a_finished_student_keeps_what_was_made_of_it(
    tiny_teacher: Teacher, tmp_path: Path
) -> None:
    write_teacher(tmp_path / "teacher", tiny_teacher)
    work = (tmp_path / "teacher", PROMPTS, tmp_path / "run")
    made = distil_folder(*work, OPTIONS)
    write_json(made.path / "onnx" / "certificate.json", {"tolerance": 2})
    write_bytes(made.path / "README.md", b"measured")
    measured = write_card(made.path, replace(made.card, quality={"clip_score": 0.8}))
    assert distil_folder(*work, OPTIONS) == measured
    assert (made.path / "README.md").read_bytes() == b"measured"

    unet = made.path / "unet" / "diffusion_pytorch_model.safetensors"
    unet.write_bytes(b"damaged")
    assert distil_folder(*work, OPTIONS) == made  # written again, whole
    made.check()
    longer = distil_folder(*work, replace(OPTIONS, iterations=2))
    assert longer.card.weights != made.card.weights


def test_a_corrected_noise_schedule_is_another_run(tiny_teacher: Teacher, tmp_path: Path) -> None:
    assert identity_of(tiny_teacher, PROMPTS).keys() == {"teacher", "prompts"}  # as it ever was
    write_teacher(tmp_path / "teacher", tiny_teacher)
    distil_folder(tmp_path / "teacher", PROMPTS, tmp_path / "run", OPTIONS)
    schedule = {**tiny_teacher.schedule, "prediction_type": "v_prediction"}
    write_teacher(tmp_path / "teacher", replace(tiny_teacher, schedule=schedule))
    told = r"other options: schedule \(None -> \{'prediction_type': 'v_prediction'\}\)"
    with pytest.raises(InvalidTraining, match=told):
        distil_folder(tmp_path / "teacher", PROMPTS, tmp_path / "run", OPTIONS)
