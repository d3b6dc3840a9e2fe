"""`sidestep new` and `sidestep import` as a user meets them."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from distill.folders import Teacher, write_teacher
from sidestep.model_folder import ModelFolder

ROOT = str(Path(__file__).parents[2])
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def sidestep(
    *arguments: str | Path, cwd: Path, preexec_fn: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command where the hub cannot be reached and its cache is empty."""
    hub = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(cwd / "hf")}
    return subprocess.run(
        [sys.executable, "-m", "sidestep", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **hub, "PYTHONPATH": ROOT},
        preexec_fn=preexec_fn,
        capture_output=True,
        text=True,
        check=False,
    )


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("InvalidModel: ")
    return line


def test_new_and_import_make_models(tiny_teacher: Teacher, tmp_path: Path) -> None:
    shape = ("--arch", "sd15", "--random", "--shrink", "8", "--size", "64")
    done = sidestep("new", *shape, "--out", "small", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "small"
    assert ModelFolder.open(tmp_path / "small").card.image_size == (64, 64)
    assert "small exists; delete it" in refused(
        sidestep("new", *shape, "--out", "small", cwd=tmp_path)
    )

    write_teacher(tmp_path / "base", tiny_teacher)
    (tmp_path / "unet.pkl").write_bytes(pickle.dumps({"ema": tiny_teacher.unet}))
    arguments = ("import", "unet.pkl", "--base", "base", "--out", "models/mine")
    done = sidestep(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "models/mine"
    assert ModelFolder.open(tmp_path / "models" / "mine").card.name == "mine"
    wrong = sidestep("import", "unet.pkl", "--base", "small", "--out", "no", cwd=tmp_path)
    assert "small does not fit unet.pkl: conv_in.weight is [16, 4, 3, 3] in the checkpoint" in (
        refused(wrong)
    )


def test_a_base_is_found_in_the_hubs_cache(tiny_teacher: Teacher, tmp_path: Path) -> None:
    """Laid out as the hub's client lays it out under HF_HOME, and read without a hub."""
    root = tmp_path / "hf" / "hub" / "models--someone--teacher"
    write_teacher(root / "blobs" / "all", tiny_teacher)
    (root / "snapshots").mkdir()
    (root / "snapshots" / COMMIT).symlink_to(root / "blobs" / "all")
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    (tmp_path / "unet.pkl").write_bytes(pickle.dumps({"ema": tiny_teacher.unet}))
    arguments = ("import", "unet.pkl", "--base", "someone/teacher", "--out", "mine")
    done = sidestep(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ModelFolder.open(tmp_path / "mine").check()


@pytest.mark.parametrize(
    ("checkpoint", "base", "words"),
    [
        ("hostile.pkl", "base", "tries to import os.system, which no"),
        ("nowhere.pkl", "base", "nowhere.pkl cannot be read"),
        ("base/model_index.json", "base", "is damaged or no checkpoint of SiD-LSG"),
        ("hub:someone/models/x.pkl", "base", "the hub cannot be reached; give a"),
        ("hostile.pkl", "someone/teacher", "or run `hf download someone/teacher`"),
        ("hostile.pkl", "nowhere", "nowhere is not a folder; give one in the diffusers layout"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    tiny_teacher: Teacher, tmp_path: Path, checkpoint: str, base: str, words: str
) -> None:
    write_teacher(tmp_path / "base", tiny_teacher)
    (tmp_path / "hostile.pkl").write_bytes(b"cos\nsystem\n(Vtouch hacked\ntR.")
    done = sidestep("import", checkpoint, "--base", base, "--out", "models/mine", cwd=tmp_path)
    assert words in refused(done)
    assert not (tmp_path / "models").exists()
    assert not (tmp_path / "hacked").exists()


def limit_files() -> None:
    """Bound the size of this process's files, which stands for a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))


def test_weights_that_do_not_fit_on_the_disk_are_one_line(
    tiny_teacher: Teacher, tmp_path: Path
) -> None:
    write_teacher(tmp_path / "base", tiny_teacher)
    (tmp_path / "unet.pkl").write_bytes(pickle.dumps({"ema": tiny_teacher.unet}))
    arguments = ("import", "unet.pkl", "--base", "base", "--out", "mine")
    full = sidestep(*arguments, cwd=tmp_path, preexec_fn=limit_files)
    assert full.returncode == 1
    assert full.stderr.splitlines()[-1].startswith("SafetensorError: ")
    assert "Traceback" not in full.stderr
    assert not (tmp_path / "mine").exists()


def test_only_random_weights_can_be_made(tmp_path: Path) -> None:
    done = sidestep("new", "--arch", "sd15", "--out", "x", cwd=tmp_path)
    assert done.returncode == 2
    assert "Missing option '--random'" in done.stderr
    done = sidestep(
        "new", "--arch", "sd15", "--random", "--size", "100", "--out", "x", cwd=tmp_path
    )
    assert "100 is not a multiple of 64" in done.stderr
    assert "Traceback" not in done.stderr
