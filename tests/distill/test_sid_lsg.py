"""The loop: it learns what it should, resumes exactly, and refuses what it cannot use."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from distill import ema
from distill.checkpoints import last_step
from distill.ema import half_life_beta
from distill.folders import Teacher, write_teacher
from distill.guidance import STRATEGIES, Guidance, strategy
from distill.losses import NoisyBatch, fake_score_losses, generator_losses, one_step
from distill.options import DistillOptions
from distill.processes import Processes
from distill.progress import logged_losses
from distill.samples import Samples
from distill.sid_lsg import Distillation, Run, distil
from distill.student import distil_folder
from distill.texts import EncodedTexts
from distill.watch import CollapseWarning
from sidestep.errors import InvalidTraining, Stopped
from sidestep.model_folder import ModelFolder
from sidestep.schedule import NoiseSchedule

OPTIONS = DistillOptions(
    iterations=4, batch=2, learning_rate=1e-3, checkpoint_every=2, precision="fp32"
)
SCHEDULE = NoiseSchedule.from_config({})
LAST = "state-000004.safetensors"


@pytest.fixture
def texts() -> EncodedTexts:
    source = torch.Generator().manual_seed(1)
    parts = [torch.randn(4, 12, 16, generator=source), torch.randn(2, 12, 16, generator=source)]
    return EncodedTexts(parts, torch.randn(1, 12, 16, generator=source))


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a) and a.keys() == b.keys()


def test_an_update_is_algorithm_1_written_again(tiny_teacher: Teacher, texts: EncodedTexts) -> None:
    guidance = Guidance(1.5, 2, 0.5, 3, alpha=1.2)
    options = replace(OPTIONS, guidance=guidance, ema_half_life=100)
    phi = tiny_teacher.unet
    work = Distillation(phi, texts, SCHEDULE, options)
    theta, psi, mean = (copy.deepcopy(phi) for _ in range(3))
    adam = {
        network: torch.optim.Adam(network.requires_grad_(True).parameters(), 1e-3, (0.0, 0.999))
        for network in (theta, psi)
    }

    def predict(unet: nn.Module) -> Any:
        return lambda x_t, t, text: unet(x_t, t, text).sample

    def batch(phase: str, step: int, **given: float) -> NoisyBatch:
        draw = work.samples.draw(phase, step, range(2), **given)  # type: ignore[arg-type]
        x_g = one_step(predict(theta), SCHEDULE, draw.z[:, 0], draw.text)
        return NoisyBatch(x_g, draw.noise, draw.t, draw.text, texts.null_text)

    def learn(network: nn.Module) -> None:
        adam[network].step()
        for other in adam.values():
            other.zero_grad()

    for step in (41, 42):
        work.update(step)
        with torch.no_grad():
            seen = batch("fake", step, empty=0.1)
        fake_score_losses(predict(psi), SCHEDULE, seen, guidance).mean().backward()
        learn(psi)
        drawn = batch("generator", step)
        generator_losses(predict(psi), predict(phi), SCHEDULE, drawn, guidance).mean().backward()
        learn(theta)
        ema.update(mean, theta, beta=0.5 ** (2 / min(100, 0.05 * 2 * (step - 1))))
    assert work.average is not None
    for ours, wanted in ((work.theta, theta), (work.psi, psi), (work.average, mean)):
        found, again, before = (
            torch.cat([weight.detach().flatten() for weight in network.parameters()])
            for network in (ours.unet, wanted, phi)
        )
        moved = (again - before).norm()
        assert moved > 0
        assert (found - again).norm() <= 1e-2 * moved


def test_timesteps_are_of_the_papers_range(texts: EncodedTexts) -> None:
    t = Samples(texts, (4, 8, 8), seed=0).draw("watch", 0, range(3000)).t
    assert 20 <= int(t.min()) < 40
    assert 960 < int(t.max()) <= 979


def test_the_clock_goes_on_where_a_run_stopped(
    tiny_teacher: Teacher, texts: EncodedTexts, tmp_path: Path
) -> None:
    """A run whose time is spent does nothing more."""
    options = replace(OPTIONS, iterations=10**6, checkpoint_every=1, seconds=0.05)
    distil(tiny_teacher.unet, texts, SCHEDULE, options, Run(tmp_path))
    ended = last_step(tmp_path)
    assert ended >= 1
    distil(tiny_teacher.unet, texts, SCHEDULE, options, Run(tmp_path))
    assert last_step(tmp_path) == ended


def test_the_teacher_is_left_alone_and_the_student_is_not(
    tiny_teacher: Teacher, texts: EncodedTexts, tmp_path: Path
) -> None:
    before = weights(tiny_teacher.unet)
    student = distil(tiny_teacher.unet, texts, SCHEDULE, OPTIONS, Run(tmp_path))
    assert equal(weights(tiny_teacher.unet), before)
    assert not equal(weights(student), before)


def test_a_stopped_run_ends_bit_for_bit_as_an_unbroken_one(
    tiny_teacher: Teacher, texts: EncodedTexts, tmp_path: Path
) -> None:
    unbroken = distil(tiny_teacher.unet, texts, SCHEDULE, OPTIONS, Run(tmp_path / "a"))

    class Stop(Exception):
        pass

    def stop(step: int, student: nn.Module) -> None:
        raise Stop

    with pytest.raises(Stop):
        distil(tiny_teacher.unet, texts, SCHEDULE, OPTIONS, Run(tmp_path / "b", on_checkpoint=stop))
    resumed = distil(tiny_teacher.unet, texts, SCHEDULE, OPTIONS, Run(tmp_path / "b"))
    assert equal(weights(unbroken), weights(resumed))
    states = [load_file(tmp_path / name / LAST) for name in "ab"]
    assert equal(*states)


def test_a_finished_run_goes_on_when_more_iterations_are_asked(
    tiny_teacher: Teacher, texts: EncodedTexts, tmp_path: Path
) -> None:
    unbroken = distil(tiny_teacher.unet, texts, SCHEDULE, OPTIONS, Run(tmp_path / "a"))
    half = replace(OPTIONS, iterations=2)
    distil(tiny_teacher.unet, texts, SCHEDULE, half, Run(tmp_path / "b"))
    longer = distil(tiny_teacher.unet, texts, SCHEDULE, OPTIONS, Run(tmp_path / "b"))
    assert equal(weights(unbroken), weights(longer))


def test_resuming_with_other_options_is_refused(
    tiny_teacher: Teacher, texts: EncodedTexts, tmp_path: Path
) -> None:
    distil(tiny_teacher.unet, texts, SCHEDULE, OPTIONS, Run(tmp_path))
    other = replace(OPTIONS, learning_rate=1e-4)
    with pytest.raises(InvalidTraining, match=r"learning_rate \(0.001 -> 0.0001\)"):
        distil(tiny_teacher.unet, texts, SCHEDULE, other, Run(tmp_path))


def test_a_damaged_checkpoint_is_named(
    tiny_teacher: Teacher, texts: EncodedTexts, tmp_path: Path
) -> None:
    distil(tiny_teacher.unet, texts, SCHEDULE, OPTIONS, Run(tmp_path))
    state = tmp_path / LAST
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(InvalidTraining, match=r"state-000004\.safetensors is damaged"):
        distil(tiny_teacher.unet, texts, SCHEDULE, OPTIONS, Run(tmp_path))


def test_prompts_are_emptied_only_where_guidance_needs_it(
    tiny_teacher: Teacher, texts: EncodedTexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, float] = {}
    draw = Samples.draw

    def note(self: Samples, phase: str, *place: Any, empty: float = 0.0) -> Any:
        asked[phase] = empty
        return draw(self, phase, *place, empty=empty)

    monkeypatch.setattr(Samples, "draw", note)
    for name, kappa, share in (
        ("long", 3, 0),
        ("none", 1, 0),
        ("lsg", 1.5, 0.1),
        ("short", 0.5, 0.1),
    ):
        options = replace(OPTIONS, guidance=strategy(name, kappa), iterations=1)
        distil(tiny_teacher.unet, texts, SCHEDULE, options, Run(tmp_path / name))
        assert asked == {"watch": 0, "fake": share, "generator": 0}


def test_the_average_follows_the_papers_half_life() -> None:
    assert half_life_beta(0, batch=512, half_life_images=50_000) == 0
    assert half_life_beta(10_240, batch=512, half_life_images=50_000) == pytest.approx(0.5)
    late = half_life_beta(10**9, batch=512, half_life_images=50_000)
    assert late == pytest.approx(0.5 ** (512 / 50_000))


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_takes_a_step(
    tiny_teacher: Teacher, texts: EncodedTexts, tmp_path: Path, name: str
) -> None:
    kappa = 0.5 if name == "short" else 2.0
    options = replace(OPTIONS, guidance=strategy(name, kappa), iterations=1)
    student = distil(tiny_teacher.unet, texts, SCHEDULE, options, Run(tmp_path))
    assert all(torch.isfinite(value).all() for value in student.state_dict().values())


def test_distilling_a_folder_writes_a_whole_model(tiny_teacher: Teacher, tmp_path: Path) -> None:
    write_teacher(tmp_path / "teacher", tiny_teacher)
    prompts = ["red apple", "a prompt of no example", "blue heart"]
    options = replace(OPTIONS, init_timestep=700)
    folder = distil_folder(tmp_path / "teacher", prompts, tmp_path / "run", options, name="tiny")
    folder.check()
    assert folder.card.recipe["guidance"]["kappa1"] == 2
    assert folder.card.recipe["images_seen"] == 8
    assert folder.card.schedule["init_timestep"] == 700
    assert folder.card.examples == ("red apple", "blue heart")
    assert (tmp_path / "run" / "samples-000004.png").exists()
    assert ModelFolder.open(tmp_path / "run" / "model").card == folder.card


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", False), ("bf16", True)])
def test_fp32_is_not_tf32(
    tiny_teacher: Teacher,
    texts: EncodedTexts,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    tf32: bool,
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    Distillation(tiny_teacher.unet, texts, SCHEDULE, replace(OPTIONS, precision=precision))
    assert torch.backends.cudnn.allow_tf32 is tf32


def test_other_prompts_or_another_teacher_are_another_run(
    tiny_teacher: Teacher, tmp_path: Path
) -> None:
    write_teacher(tmp_path / "teacher", tiny_teacher)
    run = (tmp_path / "run", replace(OPTIONS, iterations=1))
    distil_folder(tmp_path / "teacher", ["red apple"], *run)
    with pytest.raises(InvalidTraining, match=r"other options: prompts \(\w+ -> \w+\);"):
        distil_folder(tmp_path / "teacher", ["cat face"], *run)
    other = copy.deepcopy(tiny_teacher.unet)
    other.conv_in.weight.data.add_(1)
    write_teacher(tmp_path / "other", replace(tiny_teacher, unet=other))
    with pytest.raises(InvalidTraining, match=r"other options: teacher \(\w+ -> \w+\);"):
        distil_folder(tmp_path / "other", ["red apple"], *run)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_other_precisions_come_near_fp32(
    tiny_teacher: Teacher, texts: EncodedTexts, tmp_path: Path, precision: str
) -> None:
    options = replace(OPTIONS, iterations=8, learning_rate=1e-4, ema_half_life=0)
    exact = distil(tiny_teacher.unet, texts, SCHEDULE, options, Run(tmp_path / "fp32"))
    rounded = distil(
        tiny_teacher.unet, texts, SCHEDULE, replace(options, precision=precision), Run(tmp_path)
    )
    start = tiny_teacher.unet.state_dict()
    moved = torch.cat([(v - start[k]).flatten() for k, v in exact.state_dict().items()])
    also = torch.cat([(v - start[k]).flatten() for k, v in rounded.state_dict().items()])
    assert torch.cosine_similarity(moved, also, dim=0) > 0.8


def test_weights_in_fp16_train_as_the_authors_do(
    tiny_teacher: Teacher, texts: EncodedTexts, tmp_path: Path
) -> None:
    options = replace(OPTIONS, precision="fp16-weights")
    student = distil(tiny_teacher.unet, texts, SCHEDULE, options, Run(tmp_path))
    state = load_file(tmp_path / LAST)
    assert {v.dtype for k, v in state.items() if "/theta/" in k and "step" not in k} == {
        torch.float16
    }
    assert all(torch.isfinite(value).all() for value in student.state_dict().values())
    assert not equal(weights(student), weights(tiny_teacher.unet))


def test_passes_and_recomputing_change_nothing_but_rounding(
    tiny_teacher: Teacher, texts: EncodedTexts, tmp_path: Path
) -> None:
    options = replace(OPTIONS, batch=4, ema_half_life=0)
    whole = distil(tiny_teacher.unet, texts, SCHEDULE, options, Run(tmp_path / "a"))
    parts = replace(options, per_device_batch=1, recompute=True)
    split = distil(tiny_teacher.unet, texts, SCHEDULE, parts, Run(tmp_path / "b"))
    start = torch.cat([v.flatten() for v in tiny_teacher.unet.state_dict().values()])
    one, other = (
        torch.cat([value.flatten() for value in student.state_dict().values()]) - start
        for student in (whole, split)
    )
    assert torch.linalg.vector_norm(one - other) <= 1e-2 * torch.linalg.vector_norm(one)


def test_losses_that_are_not_numbers_are_counted(
    tiny_teacher: Teacher, texts: EncodedTexts, tmp_path: Path
) -> None:
    broken = EncodedTexts([torch.full((6, 12, 16), float("nan"))], texts.null_text)
    options = replace(OPTIONS, iterations=1, guidance=strategy("none"))
    with pytest.warns(CollapseWarning, match="the generator is collapsing"):
        student = distil(tiny_teacher.unet, broken, SCHEDULE, options, Run(tmp_path))
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert logged[0]["nonfinite"] == 4  # two pictures in each of two phases
    assert all(torch.isfinite(value).all() for value in student.state_dict().values())


def test_the_log_tells_losses_and_the_fisher_divergence(
    tiny_teacher: Teacher, texts: EncodedTexts, tmp_path: Path
) -> None:
    distil(tiny_teacher.unet, texts, SCHEDULE, OPTIONS, Run(tmp_path))
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    fisher = [entry["fisher"] for entry in logged if "fisher" in entry]
    assert len(fisher) == 2
    assert all(value >= 0 for value in fisher)
    (losses,) = (entry for entry in logged if "fake" in entry)
    assert losses["step"] == 4
    assert losses["nonfinite"] == 0
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_a_torn_line_of_the_log_is_passed_over(tmp_path: Path) -> None:
    """As a process leaves it that was killed in mid-line, and the next one goes on from there."""
    whole, torn = '{"step": 10, "fake": 0.5}\n', '{"step": 20, "fa'
    joined = torn + '{"step": 30, "fake": 0.4}\n'
    (tmp_path / "log.jsonl").write_text(whole + joined + '{"step": 40, "fake": 0.3}\n' + torn)
    assert logged_losses(tmp_path) == {"fake": (0.5, 0.3)}


def test_only_the_newest_checkpoints_are_kept(
    tiny_teacher: Teacher, texts: EncodedTexts, tmp_path: Path
) -> None:
    options = replace(OPTIONS, checkpoint_every=1, keep_checkpoints=3)
    distil(tiny_teacher.unet, texts, SCHEDULE, options, Run(tmp_path))
    steps = sorted(path.name for path in tmp_path.glob("state-*"))
    assert steps == [f"state-{step:06d}.safetensors" for step in (2, 3, 4)]


def command(out: str, *more: str) -> list[str]:
    code = "from sidestep.cli.main import main; main()"
    options = (
        f"--teacher teacher --prompts prompts.txt --out {out} --batch 2 --checkpoint-every 5 "
        "--precision fp32 --iterations 60"
    )
    return [sys.executable, "-c", code, "distill", *options.split(), *more]


@pytest.fixture
def workplace(tiny_teacher: Teacher, tmp_path: Path) -> dict[str, Any]:
    """A folder with a teacher and prompts, as arguments of subprocess."""
    write_teacher(tmp_path / "teacher", tiny_teacher)
    (tmp_path / "prompts.txt").write_text("red apple\nblue heart\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return {"cwd": tmp_path, "env": environment}


def wait_for_state(folder: Path, process: subprocess.Popen[Any], newer: str = "") -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if any(path.name > newer for path in folder.glob("state-*")):
            return
        time.sleep(0.01)
    raise AssertionError(f"no checkpoint after {newer or 'the start'}")


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_a_training_that_was_killed_ends_in_the_same_bits(
    workplace: dict[str, Any], kills: int
) -> None:
    """SIGKILL at random moments, each after another checkpoint, through the command line."""
    tmp_path = workplace["cwd"]
    subprocess.run(command("a"), **workplace, check=True, capture_output=True)
    newer = ""
    for _ in range(kills):
        process = subprocess.Popen(command("b"), **workplace, stderr=subprocess.DEVNULL)
        wait_for_state(tmp_path / "b", process, newer)
        time.sleep(random.uniform(0, 0.3))
        process.kill()
        assert process.wait() == -signal.SIGKILL
        newer = max(path.name for path in (tmp_path / "b").glob("state-*"))
    subprocess.run(command("b"), **workplace, check=True, capture_output=True)
    names = ["state-000060.safetensors", "model/unet/diffusion_pytorch_model.safetensors"]
    for name in names:
        assert equal(load_file(tmp_path / "a" / name), load_file(tmp_path / "b" / name))


def test_ctrl_c_saves_and_the_same_command_goes_on(workplace: dict[str, Any]) -> None:
    process = subprocess.Popen(
        command("run", "--iterations", "5000"), **workplace, stderr=subprocess.PIPE, text=True
    )
    wait_for_state(workplace["cwd"] / "run", process)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0
    stopped = re.search(r"stopped after (\d+) of 5000 steps; the same command goes on", told)
    assert stopped, told
    assert (workplace["cwd"] / "run" / f"state-{int(stopped[1]):06d}.safetensors").exists()
    assert "Traceback" not in told


def test_several_processes_look_after_every_step_whether_to_stop(
    tiny_teacher: Teacher, texts: EncodedTexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Two(Processes):
        """Two processes, of which the other one is asked to stop in the second step."""

        looks = 0

        def any(self, here: bool) -> bool:
            Two.looks += 1
            return Two.looks == 2

    monkeypatch.setattr("distill.sid_lsg.current", lambda: Two(0, 2))
    with pytest.raises(Stopped, match="after 2 of 4"):
        distil(tiny_teacher.unet, texts, SCHEDULE, OPTIONS, Run(tmp_path))


def limit_files(most_bytes: int) -> Callable[[], None]:
    """Return what limits a new process's files, which stands for a full disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    return limit


def run_full(most_bytes: int, workplace: dict[str, Any]) -> str:
    """Run ten iterations with little room; returns the one line of the error."""
    full = subprocess.run(
        command("run", "--iterations", "10"),
        **workplace,
        preexec_fn=limit_files(most_bytes),
        capture_output=True,
        text=True,
        check=False,
    )
    assert full.returncode == 2, full.stderr
    assert "Traceback" not in full.stderr
    return full.stderr.splitlines()[-1]


def test_a_checkpoint_that_does_not_fit_leaves_the_last_one(workplace: dict[str, Any]) -> None:
    subprocess.run(command("run", "--iterations", "5"), **workplace, check=True)
    error = run_full(100_000, workplace)
    assert error.startswith("InvalidTraining: run/state-000010.safetensors cannot be written")
    assert "goes on from run/state-000005.safetensors" in error
    names = [path.name for path in (workplace["cwd"] / "run").glob("*state*")]
    assert names == ["state-000005.safetensors"]


def test_embeddings_that_do_not_fit_are_one_line(workplace: dict[str, Any]) -> None:
    error = run_full(100, workplace)
    assert error.startswith("InvalidTraining: run cannot be written")
    assert "free some space" in error
