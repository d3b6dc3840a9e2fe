"""`bentoml build` asks no index, and what it built draws without the checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from sidestep.generator import Generator

pytestmark = pytest.mark.slow
PIN = re.compile(r"^([\w.-]+)==([^\s;]+)", re.MULTILINE)

Started = Callable[..., AbstractContextManager[tuple[httpx.Client, "subprocess.Popen[str]"]]]


@pytest.fixture(scope="module")
def home(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BentoML's folder, with the Bento in it."""
    home = tmp_path_factory.mktemp("bentoml")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9", "UV_INDEX_URL": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", "build", "--output", "tag"],
        cwd=checkout,
        env={**os.environ, "BENTOML_HOME": str(home), "PATH": path, **nowhere},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return home


@pytest.fixture
def files(home: Path) -> Path:
    (folder,) = (home / "bentos" / "sidestep").glob("*/src")
    return folder


def test_it_holds_what_serving_needs(files: Path) -> None:
    assert (files / "serve" / "service.py").exists()
    assert (files / "models" / "emoji" / "onnx" / "generator.onnx").exists()
    assert not (files / "models" / "emoji" / "teacher").exists()
    assert not (files / "distill").exists()


def test_its_requirements_are_the_lock(files: Path, checkout: Path) -> None:
    asked = (files.parent / "env" / "python" / "requirements.txt").read_text("utf-8")
    locked = (checkout / "locks" / "serve.txt").read_text("utf-8")
    assert set(PIN.findall(asked)) == set(PIN.findall(locked))
    assert asked.count("--hash=") == locked.count("--hash=")


def test_it_draws_outside_the_checkout(
    started: Started, home: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "bentoml", "serve", "sidestep:latest", "--port", str(port)]
    command += ["--host", "127.0.0.1", "--timeout-graceful-shutdown", "5"]
    with started(command, tmp_path, port, BENTOML_HOME=str(home)) as (http, process):
        answer = http.post("/generate", json={"prompt": "red apple", "seed": 7})
        assert answer.content == Generator.load()("red apple", seed=7).data
        assert http.get("/ui/").status_code == 200
        process.terminate()
        process.wait(timeout=60)
        assert process.returncode == 0
