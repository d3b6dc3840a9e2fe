"""What is built from a checkout holds what serving needs and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **environment},
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
        "from sidestep.generator import Generator as G; print(len(G.load()('pizza', seed=1).data))"
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


def test_a_bento_is_built_offline(tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    home = {"BENTOML_HOME": str(tmp_path), "BENTOML_DO_NOT_TRACK": "True", "PATH": path}
    run(sys.executable, "-m", "bentoml", "build", "--output", "tag", **home)
    (bento,) = (tmp_path / "bentos" / "sidestep").glob("*/src")
    assert (bento / "serve" / "service.py").exists()
    assert (bento / "models" / "emoji" / "onnx" / "generator.onnx").exists()
    assert not (bento / "models" / "emoji" / "teacher").exists()
    assert not (bento / "distill").exists()
    code = "from sidestep.generator import Generator as G; print(G.load().name)"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=bento, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "emoji"
