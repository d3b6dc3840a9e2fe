"""The loop: it learns what it should, resumes exactly, and refuses what it cannot use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from distill.ema import half_life_beta
from distill.folders import Teacher, write_teacher
from distill.presets import STRATEGIES, strategy
from distill.sid_lsg import DistillOptions, Prompts, distil, draw_phase
from distill.student import EXAMPLES, distil_folder, read_prompts
from sidestep.errors import InvalidTraining
from sidestep.model_folder import ModelFolder
from sidestep.schedule import NoiseSchedule

OPTIONS = DistillOptions(iterations=4, batch=2, learning_rate=1e-3, checkpoint_every=2)
SCHEDULE = NoiseSchedule.from_config({})


@pytest.fixture
def prompts() -> Prompts:
    source = torch.Generator().manual_seed(1)
    texts = torch.randn(6, 12, 16, generator=source)
    return Prompts(texts, torch.randn(1, 12, 16, generator=source))


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a) and a.keys() == b.keys()


def test_the_teacher_is_left_alone_and_the_student_is_not(
    tiny_teacher: Teacher, prompts: Prompts, tmp_path: Path
) -> None:
    before = weights(tiny_teacher.unet)
    student = distil(tiny_teacher.unet, prompts, SCHEDULE, OPTIONS, tmp_path)
    assert equal(weights(tiny_teacher.unet), before)
    assert not equal(weights(student), before)


def test_a_stopped_run_ends_bit_for_bit_as_an_unbroken_one(
    tiny_teacher: Teacher, prompts: Prompts, tmp_path: Path
) -> None:
    unbroken = distil(tiny_teacher.unet, prompts, SCHEDULE, OPTIONS, tmp_path / "a")

    class Stop(Exception):
        pass

    def stop(step: int, student: nn.Module) -> None:
        raise Stop

    with pytest.raises(Stop):
        distil(tiny_teacher.unet, prompts, SCHEDULE, OPTIONS, tmp_path / "b", on_checkpoint=stop)
    resumed = distil(tiny_teacher.unet, prompts, SCHEDULE, OPTIONS, tmp_path / "b")
    assert equal(weights(unbroken), weights(resumed))
    states = [load_file(tmp_path / name / "state.safetensors") for name in "ab"]
    assert equal(*states)


def test_a_finished_run_goes_on_when_more_iterations_are_asked(
    tiny_teacher: Teacher, prompts: Prompts, tmp_path: Path
) -> None:
    unbroken = distil(tiny_teacher.unet, prompts, SCHEDULE, OPTIONS, tmp_path / "a")
    half = replace(OPTIONS, iterations=2)
    distil(tiny_teacher.unet, prompts, SCHEDULE, half, tmp_path / "b")
    longer = distil(tiny_teacher.unet, prompts, SCHEDULE, OPTIONS, tmp_path / "b")
    assert equal(weights(unbroken), weights(longer))


def test_resuming_with_other_options_is_refused(
    tiny_teacher: Teacher, prompts: Prompts, tmp_path: Path
) -> None:
    distil(tiny_teacher.unet, prompts, SCHEDULE, OPTIONS, tmp_path)
    other = replace(OPTIONS, learning_rate=1e-4)
    with pytest.raises(InvalidTraining, match=r"learning_rate \(0.001 -> 0.0001\)"):
        distil(tiny_teacher.unet, prompts, SCHEDULE, other, tmp_path)


def test_a_damaged_checkpoint_is_named(
    tiny_teacher: Teacher, prompts: Prompts, tmp_path: Path
) -> None:
    distil(tiny_teacher.unet, prompts, SCHEDULE, OPTIONS, tmp_path)
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(InvalidTraining, match=r"state\.safetensors is damaged"):
        distil(tiny_teacher.unet, prompts, SCHEDULE, OPTIONS, tmp_path)


def test_prompts_are_emptied_only_where_guidance_needs_it(prompts: Prompts) -> None:
    def share_empty(name: str, kappa: float) -> float:
        guidance = strategy(name, kappa)
        empty = 0.1 if guidance.drops_prompts else 0.0
        options = replace(OPTIONS, batch=2000, guidance=guidance)
        draw = draw_phase(prompts, options, (4, 2, 2), ("fake", 1), empty=empty)
        assert 20 <= int(draw.t.min()) <= 25
        assert 974 <= int(draw.t.max()) <= 979
        return float((draw.text == prompts.null_text).all(dim=(1, 2)).float().mean())

    assert share_empty("long", 3) == 0
    assert share_empty("none", 1) == 0
    assert share_empty("lsg", 1.5) == pytest.approx(0.1, abs=0.03)
    assert share_empty("short", 0.5) == pytest.approx(0.1, abs=0.03)


def test_the_average_follows_the_papers_half_life() -> None:
    assert half_life_beta(0, batch=512, half_life_images=50_000) == 0
    assert half_life_beta(10_240, batch=512, half_life_images=50_000) == pytest.approx(0.5)
    late = half_life_beta(10**9, batch=512, half_life_images=50_000)
    assert late == pytest.approx(0.5 ** (512 / 50_000))


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_takes_a_step(
    tiny_teacher: Teacher, prompts: Prompts, tmp_path: Path, name: str
) -> None:
    kappa = 0.5 if name == "short" else 2.0
    options = replace(OPTIONS, guidance=strategy(name, kappa), iterations=1, autocast=False)
    student = distil(tiny_teacher.unet, prompts, SCHEDULE, options, tmp_path)
    assert all(torch.isfinite(value).all() for value in student.state_dict().values())


def test_distilling_a_folder_writes_a_whole_model(tiny_teacher: Teacher, tmp_path: Path) -> None:
    write_teacher(tmp_path / "teacher", tiny_teacher)
    (tmp_path / "prompts.txt").write_text("red apple\n\nblue heart\n")
    folder = distil_folder(
        tmp_path / "teacher", tmp_path / "prompts.txt", tmp_path / "run", OPTIONS, name="tiny"
    )
    folder.check()
    assert folder.card.recipe["guidance"]["kappa1"] == 1.5
    assert folder.card.recipe["images_seen"] == 8
    assert folder.card.examples == EXAMPLES
    assert (tmp_path / "run" / "samples-000004.png").exists()
    assert ModelFolder.open(tmp_path / "run" / "model").card == folder.card


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\n \n", "has no prompts"), (b"\xff\xfe\xff", "cannot be read as UTF-8")],
)
def test_a_prompts_file_without_prompts_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(content)
    with pytest.raises(InvalidTraining, match=message):
        read_prompts(path)


def test_a_killed_training_resumes_to_the_same_bits(tiny_teacher: Teacher, tmp_path: Path) -> None:
    """SIGKILL at an arbitrary moment after the first checkpoint, through the command line."""
    write_teacher(tmp_path / "teacher", tiny_teacher)
    (tmp_path / "prompts.txt").write_text("red apple\nblue heart\n")

    def command(out: str) -> list[str]:
        code = "from sidestep.cli.main import main; main()"
        options = f"--teacher teacher --prompts prompts.txt --out {out} --iterations 70 --batch 2"
        return [sys.executable, "-c", code, "distill", *options.split()]

    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run(command("a"), cwd=tmp_path, env=environment, check=True, capture_output=True)
    process = subprocess.Popen(
        command("b"), cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL
    )
    state = tmp_path / "b" / "state.safetensors"
    deadline = time.monotonic() + 120
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert state.exists()
    subprocess.run(command("b"), cwd=tmp_path, env=environment, check=True, capture_output=True)
    names = ["state.safetensors", "model/unet/diffusion_pytorch_model.safetensors"]
    for name in names:
        assert equal(load_file(tmp_path / "a" / name), load_file(tmp_path / "b" / name))
