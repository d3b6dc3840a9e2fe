"""The whole training by the clock, from a bundle to students that draw, stopped on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from distill.autoencoder import AutoencoderOptions
from distill.budgets import Budget
from distill.embedded import stop_after, train_embedded
from distill.emoji_bundle import read_bundle
from distill.emoji_pictures import Amounts
from distill.emoji_teacher import EmojiTeacherOptions
from distill.folders import load_teacher
from distill.guidance import strategy
from distill.held_out import read_prompts
from distill.options import DistillOptions
from distill.processes import Processes
from distill.progress import Progress
from distill.teacher import TeacherOptions
from sidestep.errors import InvalidData, InvalidTraining, Stopped
from sidestep.generator import Generator
from sidestep.images import decode
from sidestep.model_folder import ModelFolder

NAMES = ["cat-face", "crown", "crying-cat", "pizza", "red-apple", "red-heart"]
SMALL = AutoencoderOptions(channels=(8, 8), steps=3, batch=2, warmup_steps=1)
TINY = Budget(
    about="a test",
    device="cpu",
    teacher=EmojiTeacherOptions(
        autoencoder=SMALL,
        lighter=replace(SMALL, adversarial_weight=0.1, steps=4),
        teacher=TeacherOptions(
            channels=(16, 32), text_width=16, text_layers=1, steps=3, batch=4, warmup_steps=1
        ),
        amounts=Amounts(colours=1, pairs=6),
    ),
    student=DistillOptions(
        guidance=strategy("lsg", 1.5), iterations=2, batch=2, checkpoint_every=1
    ),
    kappas=(3.0,),
    default=3.0,
)


@pytest.fixture
def bundle(write_bundle: Callable[..., Path]) -> Path:
    return write_bundle(NAMES, synonyms={"pizza": ["slice"]})


def test_a_bundle_gives_back_its_pictures(bundle: Path) -> None:
    icons = read_bundle(bundle).icons
    assert [part.style for part in icons] == ["noto", "flat"]
    assert icons[1].pictures.shape == (6, 16, 16, 4)
    assert icons[0].pictures[0, 0].tolist() == [[0, 0, 0, 0]] * 16
    assert icons[0].pictures[3, 8, 8, 3] == 255
    bundle.write_bytes(bundle.read_bytes()[:-40])
    with pytest.raises(InvalidData, match="is damaged"):
        read_bundle(bundle)


@pytest.mark.slow
def test_from_a_bundle_to_students_that_draw(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    (folder,) = train_embedded(bundle, out, TINY, device="cpu")
    folder.check()
    picture = Generator.load(folder.path)("red apple", seed=1)
    assert decode(picture.data).shape == (16, 16, 3)
    assert folder.card.recipe["guidance"]["kappa4"] == 3
    assert folder.card.recipe["images_seen"] == 4
    assert folder.card.quality["lighter_pictures"] == 2  # the held-out crying cat, twice
    assert folder.card.quality["trained_on"] == "a CPU"
    told = json.loads((out / "progress.json").read_text())
    seconds = told["teacher"]["seconds"] + told["student 3"]["seconds"]
    assert abs(folder.card.quality["trained_s"] - seconds) <= 0.5
    assert (out / "prompts.txt").read_text().count("crying cat") == 0
    teacher = load_teacher(out / "model")
    assert teacher.image_size == (16, 16)
    assert teacher.held_out == read_prompts() == load_teacher(folder.path).held_out
    phase = folder.card.recipe["teacher"]["teacher"][0]
    assert (phase["steps"], phase["pictures"]) == (3, sum(phase["groups"]))

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    # Nor is the device that it was trained on, when nothing is left to train.
    train_embedded(tmp_path / "not needed", out, TINY, device="cuda")
    assert {path: path.stat().st_mtime_ns for path in before} == before


TWO_PROCESSES = """
import sys
from dataclasses import replace
from pathlib import Path
from distill.embedded import train_embedded
from test_embedded import TINY

teacher = replace(TINY.teacher.teacher, steps=10**6, seconds=1)
student = replace(TINY.student, iterations=10**6, seconds=1)
budget = replace(TINY, teacher=replace(TINY.teacher, teacher=teacher), student=student)
train_embedded(Path(sys.argv[1]), Path(sys.argv[2]), budget, device="cpu")
"""


def in_two_processes(program: str, bundle: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Run a program of (bundle, out) under torchrun; it must end in good order."""
    script, here = out.with_suffix(".py"), Path(__file__).parent
    script.write_text(program)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*torchrun, "--nproc-per-node", "2", str(script), str(bundle), str(out)],
        env={**os.environ, "PYTHONPATH": f"{here.parents[1]}{os.pathsep}{here}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_two_processes_share_a_budget(bundle: Path, tmp_path: Path) -> None:
    """The first makes the pictures and the engines; both train, by one clock."""
    out = tmp_path / "run"
    done = in_two_processes(TWO_PROCESSES, bundle, out)
    assert done.stderr.count("teacher: begins after 0 s") == 1
    told = json.loads((out / "progress.json").read_text())
    assert all(part["finished"] for part in told.values())
    assert ModelFolder.open(out / "models" / "emoji").card.recipe["iterations"] > 1


STOPPED = """
import os, signal, sys, threading, time
from dataclasses import replace
from pathlib import Path
from distill.embedded import stop_after, train_embedded
from sidestep.errors import Stopped
from test_embedded import TINY

bundle, out = map(Path, sys.argv[1:])

def stop():
    while not list((out / "autoencoder").glob("events*")):
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)  # as the clock of --minutes does in each of them

threading.Thread(target=stop).start()
endless = replace(TINY.teacher.autoencoder, steps=10**6)
budget = replace(TINY, teacher=replace(TINY.teacher, autoencoder=endless))
try:
    with stop_after(None):
        train_embedded(bundle, out, budget, device="cpu")
except Stopped as stopped:
    print(stopped)
"""


def test_two_processes_are_stopped_while_one_waits(bundle: Path, tmp_path: Path) -> None:
    """The first, in the autoencoder's training, saves its state; both end in good order."""
    out = tmp_path / "run"
    done = in_two_processes(STOPPED, bundle, out)
    assert done.stdout.count("the same command goes on from") == 2
    assert "begins this part again" not in done.stderr
    assert list((out / "autoencoder").glob("state-*"))


@pytest.mark.parametrize(("count", "batch"), [(3, 4), (4, 2)])  # the teacher's, the student's
def test_processes_that_cannot_share_a_batch_are_told_before_any_work(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, batch: int
) -> None:
    monkeypatch.setattr("distill.embedded.current", lambda: Processes(0, count))
    with pytest.raises(InvalidTraining, match=f"--batch {batch} cannot .* --nproc-per-node"):
        train_embedded(bundle, tmp_path / "run", TINY, device="cpu")
    assert not (tmp_path / "run").exists()


def test_another_default_and_back_ships_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped: list[float] = []
    (tmp_path / "prompts.txt").write_text("pizza\n")
    for part in ("train_emoji_teacher", "_distil", "_export"):
        monkeypatch.setattr(f"distill.embedded.{part}", lambda *_, **__: None)
    monkeypatch.setattr("distill.embedded._ship", lambda out, kappas: shipped.append(kappas[0]))
    monkeypatch.setattr(ModelFolder, "open", lambda path: path)
    for default in (1.5, 1.5, 3.0, 1.5):
        budget = replace(TINY, kappas=(1.5, 3.0), default=default)
        train_embedded(tmp_path, tmp_path, budget, device="cpu")
    assert shipped == [1.5, 3.0, 1.5]


@pytest.mark.slow
def test_models_shipped_before_are_replaced(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for default, names in ((3.0, "emoji emoji-kappa-4.5"), (4.5, "emoji emoji-kappa-3")):
        budget = replace(TINY, kappas=(3.0, 4.5), default=default)
        models = train_embedded(bundle, out, budget, device="cpu")
        assert sorted(path.name for path in (out / "models").iterdir()) == names.split()
        assert models[0].card.recipe["guidance"]["kappa4"] == default
        for model in models:
            model.check()
            assert model.card.name == model.path.name
            Generator.load(model.path, engine="onnx")("red apple", seed=1)


def stop_when_it_trains(folder: Path) -> threading.Thread:
    """Send this process SIGTERM when a training has opened its log in `folder`."""
    before = set(folder.glob("events*"))

    def stop() -> None:
        while set(folder.glob("events*")) <= before:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    return thread


def test_a_training_goes_on_where_it_was_stopped(bundle: Path, tmp_path: Path) -> None:
    """SIGTERM in the teacher's training: the autoencoders are not trained again."""
    out = tmp_path / "run"
    teacher = replace(TINY.teacher, teacher=replace(TINY.teacher.teacher, steps=10**6))
    endless = replace(TINY, teacher=teacher)
    steps, latents = [], []
    for _ in range(2):
        thread = stop_when_it_trains(out / "teacher")
        with pytest.raises(Stopped, match="goes on from") as stopped, stop_after(None):
            train_embedded(bundle, out, endless, device="cpu")
        thread.join()
        steps.append(stopped.value.step)
        latents.append((out / "latents.safetensors").stat().st_mtime_ns)
    assert steps[1] > steps[0] > 0
    assert latents[0] == latents[1]
    told = json.loads((out / "progress.json").read_text())
    assert told["teacher"]["finished"] is False
    assert told["teacher"]["seconds"] > 0


def test_the_clock_ends_a_training(tmp_path: Path) -> None:
    progress = Progress(tmp_path, "clock", first=7, last=10**9, log_every=1)
    steps = list(progress.within(1000.0, spent=999.9))
    assert steps[0] == 8
    assert progress.final
    assert progress.last == steps[-1]
    assert not list(Progress(tmp_path, "over", first=7, last=9, log_every=1).within(5, spent=6))
