"""What a stage does, on a small real model."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.engine_rows import Timed
from bench.reports import Report
from distill.presets import PRESETS
from sidestep.errors import BenchmarkFailed
from sidestep.model_folder import ModelFolder
from sidestep.pipeline.options import RunOptions
from sidestep.pipeline.work import bench


def test_an_engine_that_dies_while_it_is_timed_is_a_failure(
    tiny_model: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = Timed.block

    def dies(one: Timed, calls: int, warmup: int) -> None:
        if one.rounds:
            one.contender._process.kill()
        block(one, calls, warmup)

    monkeypatch.setattr(Timed, "block", dies)
    recipe = PRESETS["sd15"].options
    options = RunOptions("sd15", recipe, tiny_model.path, (), tmp_path, minutes=1)
    with pytest.raises(BenchmarkFailed, match="at batch 1 engine:auto died"):
        bench(options, tiny_model.path, tmp_path / "engines.json")
    assert Report.read(tmp_path / "engines.json").failed
