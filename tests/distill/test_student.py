"""A student's folder belongs to what it was made from, and is left alone when nothing is new."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from distill.folders import Teacher, write_teacher
from distill.options import DistillOptions
from distill.student import distil_folder, identity_of
from sidestep.errors import InvalidTraining

OPTIONS = DistillOptions(iterations=1, batch=2, precision="fp32")
PROMPTS = ["red apple", "blue heart"]


def test_a_corrected_noise_schedule_is_another_run(tiny_teacher: Teacher, tmp_path: Path) -> None:
    assert identity_of(tiny_teacher, PROMPTS).keys() == {"teacher", "prompts"}  # as it ever was
    write_teacher(tmp_path / "teacher", tiny_teacher)
    distil_folder(tmp_path / "teacher", PROMPTS, tmp_path / "run", OPTIONS)
    schedule = {**tiny_teacher.schedule, "prediction_type": "v_prediction"}
    write_teacher(tmp_path / "teacher", replace(tiny_teacher, schedule=schedule))
    told = r"other options: schedule \(None -> \{'prediction_type': 'v_prediction'\}\)"
    with pytest.raises(InvalidTraining, match=told):
        distil_folder(tmp_path / "teacher", PROMPTS, tmp_path / "run", OPTIONS)
