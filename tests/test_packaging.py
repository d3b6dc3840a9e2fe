"""What is built from a checkout holds what serving needs and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_carries_the_model(tmp_path: Path) -> None:
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(tmp_path)]
    run(sys.executable, "-m", "pip", "wheel", *options, ".")
    (wheel,) = tmp_path.glob("sidestep-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    assert "sidestep/_models/emoji/onnx/generator.onnx" in names
    assert "sidestep/_models/judge/open_clip_model.safetensors" in names
    assert not any("/teacher/" in name or name.startswith("tests/") for name in names)
    code = (
        "from sidestep.generator import Generator as G; "
        "from sidestep.model_folder import named_folder as f; "
        "models = [G.load(), G.load(f('emoji-kappa-3')[1])]; "
        "print(min(len(model('pizza', seed=1).data) for model in models))"
    )
    out = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(out.stdout) > 500


def test_a_wheel_of_the_sdist_is_that_of_the_checkout(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--directory"]
    run(*build, tmp_path / "checkout", "--target", "wheel")
    run(*build, tmp_path, "--target", "sdist")
    (sdist,) = tmp_path.glob("sidestep-*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    source = tmp_path / sdist.name.removesuffix(".tar.gz")
    run(*build, tmp_path / "sdist", "--target", "wheel", cwd=source)
    (wanted,), (found,) = (list((tmp_path / n).glob("*.whl")) for n in ("checkout", "sdist"))
    assert contents(found) == contents(wanted)
    assert found.name == wanted.name
    for file in ("deploy/Containerfile", "locks/cuda.txt", "Makefile", "tests/test_packaging.py"):
        assert (source / file).is_file()


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
