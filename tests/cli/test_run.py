"""`sidestep run` on Stable Diffusion's classes at small size: what is done, skipped and refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from distill.folders import Teacher, write_teacher
from sidestep.cli.run import command
from sidestep.errors import (
    BackendUnavailable,
    InvalidData,
    InvalidModel,
    InvalidRequest,
    InvalidTraining,
    StageFailed,
)
from sidestep.model_folder import HELD_OUT, PROMPTS, ModelFolder

README = "---\nlicense: creativeml-openrail-m\n---\n# a teacher\n"


@pytest.fixture
def flags(tiny_teacher: Teacher, tmp_path: Path) -> list[str]:
    write_teacher(tmp_path / "teacher", tiny_teacher)
    (tmp_path / "teacher" / "README.md").write_text(README)
    (tmp_path / "prompts.txt").write_text("red apple\nblue heart\ncat face\n")
    paths = {"--teacher": "teacher", "--prompts": "prompts.txt", "--out": "run"}
    small = "--iterations 2 --batch 2 --per-device-batch 0 --ema-half-life 0 --precision fp32"
    return [
        *(word for key, name in paths.items() for word in (key, str(tmp_path / name))),
        *("--preset", "sd15", "--engine-precision", "fp32", *small.split()),
    ]


def run(flags: list[str], *more: str) -> Result:
    return CliRunner().invoke(command, [*flags, *more], catch_exceptions=True)


def weights(tmp_path: Path) -> str:
    return ModelFolder.open(tmp_path / "run" / "model").card.weights


def test_a_second_run_finds_everything_unchanged_but_what_was_deleted(
    flags: list[str], tmp_path: Path
) -> None:
    first = run(flags, "--until", "export")
    assert first.exit_code == 0, first.output
    assert "[2/2] export onnx fp32: done" in first.stderr
    card = ModelFolder.open(tmp_path / "run" / "model").card
    assert card.recipe["preset"] == "sd15"
    assert set(card.recipe["losses"]) >= {"fake", "generator", "fisher"}
    assert list(card.licences.values()) == ["creativeml-openrail-m"]
    again = run(flags, "--until", "export")
    assert again.stderr.count("unchanged since") == 2
    assert weights(tmp_path) == card.weights
    graph = tmp_path / "run" / "model" / "onnx" / "generator.onnx"
    graph.unlink()
    mended = run(flags, "--until", "export")
    assert mended.stderr.count("unchanged since") == 1
    assert "[2/2] export onnx fp32: done" in mended.stderr
    assert graph.is_file()


@pytest.mark.slow
def test_another_teacher_changes_all_that_depends_on_it(
    flags: list[str], tiny_teacher: Teacher, tmp_path: Path
) -> None:
    assert run(flags, "--until", "export").exit_code == 0
    before = weights(tmp_path)
    trainings = set((tmp_path / "run").glob("distil-*"))
    unet = type(tiny_teacher.unet).from_config(tiny_teacher.unet.config)
    torch.manual_seed(1)
    for weight in unet.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    write_teacher(tmp_path / "teacher", replace(tiny_teacher, unet=unet.half().float()))
    changed = run(flags, "--until", "distil")
    assert changed.exit_code == 0, changed.output
    assert "distil: done" in changed.stderr
    assert weights(tmp_path) != before
    assert trainings < set((tmp_path / "run").glob("distil-*"))  # the old one is kept
    assert not (tmp_path / "run" / "model" / "onnx").exists()
    planned = run(flags, "--until", "export", "--dry-run").stdout
    assert "1. distil" in planned.splitlines()[0]
    assert "(unchanged)" in planned.splitlines()[0]
    assert "(to do)" in planned.splitlines()[1]
    schedule = tmp_path / "teacher" / "scheduler" / "scheduler_config.json"
    schedule.write_text(schedule.read_text().replace('"epsilon"', '"v_prediction"'))
    planned = run(flags, "--until", "export", "--dry-run").stdout
    assert "(to do)" in planned.splitlines()[0], "its schedule counts too"


def test_another_runs_folder_is_refused(flags: list[str], tmp_path: Path) -> None:
    assert run(flags, "--until", "distil").exit_code == 0
    before = weights(tmp_path)
    refused = run(flags, "--kappa", "3", "--until", "distil")
    assert isinstance(refused.exception, InvalidTraining)
    assert "guidance" in str(refused.exception)
    assert weights(tmp_path) == before


@pytest.mark.slow
def test_a_stage_that_fails_is_named_and_gone_on_with(flags: list[str], tmp_path: Path) -> None:
    assert run(flags, "--until", "distil").exit_code == 0
    model = tmp_path / "run" / "model"
    vocabulary = model / "tokenizer" / "vocab.json"
    kept = vocabulary.read_text()
    vocabulary.write_text("{}")
    failed = run(flags, "--until", "export")
    assert isinstance(failed.exception, StageFailed)
    assert "stage export onnx fp32 failed" in str(failed.exception)
    assert str(tmp_path / "run" / "run.log") in str(failed.exception)
    vocabulary.write_text(kept)
    done = run(flags, "--until", "export")
    assert done.exit_code == 0, done.output
    assert "[1/2] distil: unchanged" in done.stderr


def test_a_dry_run_writes_nothing(flags: list[str], tmp_path: Path) -> None:
    told = run(flags, "--to", "onnx,openvino", "--small-decoder", "--dry-run").stdout
    names = [line.split(":")[0] for line in told.splitlines() if line[0].isdigit()]
    assert names[:7] == [
        "1. distil",
        "2. decoder",
        "3. export onnx fp32",
        "4. export onnx fp32, small decoder",
        "5. export openvino fp32",
        "6. export openvino fp32, small decoder",
        "7. certify",
    ]
    assert "activations" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "kind", "told"),
    [
        (["--to", "coreml"], InvalidRequest, "to is 'coreml'"),
        (["--engine-precision", "int4"], InvalidRequest, "precision is 'int4'"),
        (["--budget", "0"], InvalidTraining, "--budget 0 is below"),
        (["--port", "3001"], InvalidRequest, "--port is about --serve"),
        (["--decoder-steps", "5"], InvalidRequest, "--decoder-steps is about --small-decoder"),
        (["--serve", "--until", "bench"], InvalidRequest, "--until ends before --serve"),
        (["--teacher", "/nowhere"], InvalidModel, "/nowhere"),
        (["--coco", "/nowhere"], InvalidData, "/nowhere/prepared.json is missing"),
        (
            ["--preset", "emoji", "--coco", "/nowhere"],
            InvalidRequest,
            "--coco is about a preset of other models",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    flags: list[str], tmp_path: Path, more: list[str], kind: type[Exception], told: str
) -> None:
    refused = run(flags, *more)
    assert isinstance(refused.exception, kind)
    assert told in str(refused.exception)
    assert not (tmp_path / "run").exists()


def test_a_student_of_emoji_sees_no_prompt_that_its_teacher_did_not(tmp_path: Path) -> None:
    from sidestep.cli.run import _prompts

    given = dict.fromkeys(("prompts", "exclude", "prompts_column"))
    known = set(_prompts(given, tmp_path))
    (tmp_path / HELD_OUT).write_text("pizza\nred heart\n")
    dropped = known - set(_prompts(given, tmp_path))
    assert {text.split(", ")[0] for text in dropped} == {"pizza", "red heart"}
    assert len(dropped) > 4  # with each style
    (tmp_path / PROMPTS).write_text("red apple\nblue apple\n")
    assert _prompts(given, tmp_path) == ("red apple", "blue apple")  # the teacher's own


def test_a_preset_of_foreign_weights_needs_a_teacher_and_prompts() -> None:
    refused = run(["--preset", "sd21-base"])
    assert isinstance(refused.exception, InvalidRequest)
    assert "--teacher DIR and --prompts FILE" in str(refused.exception)


@pytest.mark.parametrize("flag", ["--exclude", "--prompts-column"])
def test_what_is_about_a_prompts_file_needs_one(tmp_path: Path, flag: str) -> None:
    refused = run(["--out", str(tmp_path / "run"), "--dry-run", flag, "caption"])
    assert isinstance(refused.exception, InvalidRequest)
    assert "--prompts FILE" in str(refused.exception)


def test_what_judges_is_missed_before_anything_starts(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (coco := tmp_path / "coco" / "pictures").mkdir(parents=True)
    for name in ("prepared.json", "captions.txt"):
        (coco.parent / name).write_text("{}")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    monkeypatch.delitem(sys.modules, "bench.quality.extractors", raising=False)
    missed = run(flags, "--coco", str(coco.parent))
    assert isinstance(missed.exception, BackendUnavailable)
    assert "pip install 'sidestep[eval]'" in str(missed.exception)
    assert not list((tmp_path / "run").glob("distil-*"))


def test_processes_of_torchrun_are_refused(
    flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert isinstance(run(flags).exception, InvalidTraining)


@pytest.mark.slow
def test_two_processes_distil_what_one_does(flags: list[str], tmp_path: Path) -> None:
    assert run(flags, "--until", "distil").exit_code == 0
    alone = ModelFolder.open(tmp_path / "run" / "model")
    flags[flags.index(str(tmp_path / "run"))] = str(tmp_path / "together")
    done = run(flags, "--until", "distil", "--processes", "2")
    assert done.exit_code == 0, done.output
    together = ModelFolder.open(tmp_path / "together" / "model")
    told = {"images_seen": 4, "preset": "sd15"}
    assert told.items() <= together.card.recipe.items()
    assert alone.card.recipe["guidance"] == together.card.recipe["guidance"]


@pytest.mark.slow
def test_a_whole_run_ends_with_a_card_that_tells_all(flags: list[str], tmp_path: Path) -> None:
    done = run(flags, "--budget", "0.2")
    assert done.exit_code == 0, done.output
    model = tmp_path / "run" / "model"
    text = (model / "README.md").read_text()
    for part in ("creativeml-openrail-m", "## Latency", "onnx-cpu", "FID", "8.71", "`onnx`"):
        assert part in text
    card = ModelFolder.open(model).card
    assert [row["batch"] for row in card.latency["rows"]] == [1, 4]
    checks = json.loads((tmp_path / "run" / "checks.json").read_text())
    assert {check["level"] for check in checks} <= {"ok", "note"}
    again = run(flags, "--budget", "0.2")
    assert again.stderr.count("unchanged since") == 5


@pytest.mark.slow
def test_a_run_that_is_killed_three_times_goes_on(flags: list[str], tmp_path: Path) -> None:
    code = "from sidestep.cli.main import main; main()"
    command = [sys.executable, "-c", code, "run", *flags, "--until", "bench"]
    for stage in ("[1/4] distil:", "[2/4] export", "[4/4] bench"):
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr
            told = [next(line for line in process.stderr if line.startswith(stage))]
            process.kill()
            told += process.stderr.readlines()
        assert not any(f"{stage} done" in line for line in told)
    last = subprocess.run(command, capture_output=True, text=True, check=True)
    assert last.stderr.count("unchanged since") == 3
    assert "[4/4] bench: done" in last.stderr
    folders = {path.name for path in (tmp_path / "run").iterdir() if not path.name.startswith(".")}
    assert {"model", "run.json", "run.log", "checks.json", "engines.json"} <= folders
