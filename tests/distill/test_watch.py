"""The alarm for a collapse knows what a run had seen before it was stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distill.folders import Teacher
from distill.options import DistillOptions
from distill.progress import widest_spread
from distill.sid_lsg import Run, distil
from distill.texts import EncodedTexts
from distill.watch import CollapseWarning
from sidestep.schedule import NoiseSchedule

OPTIONS = DistillOptions(iterations=1, batch=2, checkpoint_every=1, precision="fp32")


def log_spreads(folder: Path, *spreads: tuple[int, float]) -> None:
    with (folder / "log.jsonl").open("a") as log:
        log.writelines(json.dumps({"step": at, "spread": s}) + "\n" for at, s in spreads)


def test_a_run_that_goes_on_remembers_its_widest_spread(
    tiny_teacher: Teacher, tmp_path: Path
) -> None:
    source = torch.Generator().manual_seed(1)
    texts = EncodedTexts(
        [torch.randn(2, 12, 16, generator=source)], torch.randn(1, 12, 16, generator=source)
    )
    run, schedule = Run(tmp_path), NoiseSchedule.from_config({})
    distil(tiny_teacher.unet, texts, schedule, OPTIONS, run)
    log_spreads(tmp_path, (1, 100.0))
    with pytest.warns(CollapseWarning, match="from 100: the generator is collapsing"):
        distil(tiny_teacher.unet, texts, schedule, replace(OPTIONS, iterations=2), run)


def test_only_the_way_to_the_checkpoint_counts(tmp_path: Path) -> None:
    assert widest_spread(tmp_path, 40) == 0
    log_spreads(tmp_path, (10, 0.5), (20, 0.7), (30, float("nan")), (40, 8.0), (50, 9.0))
    log_spreads(tmp_path, (40, 0.6))  # set back to 30 and gone on
    assert widest_spread(tmp_path, 40) == 0.7
    assert widest_spread(tmp_path, 10) == 0.5
