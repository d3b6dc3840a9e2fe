"""The whole service as a user starts it: `sidestep serve`, BentoML's supervisor and worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from sidestep.generator import Generator
from sidestep.model_folder import CARD, ONNX, ModelFolder

ROOT = Path(__file__).parents[2]
SIDESTEP = [sys.executable, "-c", "from sidestep.cli.main import main; main()"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def test_the_service_from_start_to_stop(
    serving: Callable[[Path, int, Path], AbstractContextManager[subprocess.Popen[str]]],
    free_port: Callable[[], int],
    tiny_model: ModelFolder,
    tmp_path: Path,
) -> None:
    port = free_port()
    relative = Path(os.path.relpath(tiny_model.path, tmp_path))
    with serving(relative, port, tmp_path) as process:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            answer = http.post("/generate", json={"prompt": "red apple", "seed": 7})
            assert answer.content == Generator.load(tiny_model.path)("red apple", seed=7).data
            assert http.get("/readyz").status_code == 200
            assert http.get("/livez").status_code == 200
            assert http.get("/nope").json()["error"]["code"] == "not_found"
            assert http.post("/readyz").json()["error"]["code"] == "method_not_allowed"
            assert "/generate" in http.get("/openapi.json").json()["paths"]
            assert http.get("/ui/").status_code == 200
            large = http.post(
                "/generate", content=b" " * 2_000_000, headers={"content-type": "application/json"}
            )
            assert large.status_code == 413
        again = subprocess.run(
            [*SIDESTEP, "serve", "--model", str(tiny_model.path), "--port", str(port)],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert again.returncode == 2
        assert again.stderr.count("\n") == 1
        assert f"cannot listen on 127.0.0.1:{port}" in again.stderr
        heartbeat = f"http://127.0.0.1:{port}/ui/gradio_api/heartbeat/open-page"
        with httpx.stream("GET", heartbeat) as page:
            next(page.iter_raw())
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert output == "", "it stops without a word"


@pytest.mark.parametrize("damage", ["missing", "truncated", "mismatching"])
def test_a_damaged_model_is_one_line(
    free_port: Callable[[], int], tiny_model: ModelFolder, damage: str
) -> None:
    path = tiny_model.path / ONNX
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        path = tiny_model.path / CARD
        path.write_text(path.read_text().replace('"tokens": 12', '"tokens": 13'))
    told = subprocess.run(
        [*SIDESTEP, "serve", "--model", str(tiny_model.path), "--port", str(free_port())],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 2
    assert told.stderr.startswith("InvalidModel: ")
    assert told.stderr.count("\n") == 1
    name = ONNX if damage == "mismatching" else path.name
    assert name in told.stderr


def test_serving_imports_no_torch(tiny_model: ModelFolder) -> None:
    program = f"""
import sys
import serve.service, serve.run
assert "gradio" not in sys.modules and "fastapi" not in sys.modules
from serve.app import create_app
from serve.settings import Settings
from sidestep.generator import Generator
import ui
generator = Generator.load({str(tiny_model.path)!r})
create_app(generator, Settings())
generator("red apple", seed=1)
print(sorted({{"torch", "transformers", "diffusers"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "[]\n", done.stderr
