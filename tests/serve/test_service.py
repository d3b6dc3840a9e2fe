"""The whole service as a user starts it: `sidestep serve`, BentoML's supervisor and worker."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from sidestep.generator import Generator
from sidestep.images import read_recipe
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
            paths = http.get("/openapi.json").json()["paths"]
            assert {"/generate", "/v1/images/generations", "/bentoml/generate"} <= set(paths)
            assert "sidestep_pictures_total" in http.get("/metrics").text
            speaks_bentoml(http, answer.content)
            assert http.get("/ui/").status_code == 200
            counted = http.get("/metrics").text
            for route in ("/generate", "/bentoml/generate", "/ui", "other"):
                assert f'route="{route}",status="' in counted
            assert 'route=""' not in counted
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


def queued(http: httpx.Client) -> float:
    metrics = http.get("/metrics").text
    found = re.search(r"^sidestep_queued_pictures\{.*\} (\S+)$", metrics, re.M)
    assert found is not None
    return float(found[1])


def test_what_was_accepted_is_finished(
    serving: Callable[..., AbstractContextManager[subprocess.Popen[str]]],
    free_port: Callable[[], int],
    tiny_model: ModelFolder,
    tmp_path: Path,
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    flags = ("--engine", "fake", "--no-recipe", "--deadline-ms", "60000", "--grace-s", "60")

    def ask(number: int) -> httpx.Response | None:
        body = {"prompt": "a", "count": 16, "client_id": str(number)}
        try:
            return httpx.post(f"{url}/generate", json=body, timeout=120)
        except httpx.TransportError:  # it came too late to be accepted
            return None

    with (
        serving(tiny_model.path, port, tmp_path, *flags) as process,
        ThreadPoolExecutor(16) as pool,
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        assert read_recipe(httpx.get(f"{url}/generate?prompt=a", timeout=60).content) is None
        with httpx.stream("GET", f"{url}/ui/gradio_api/heartbeat/open-page", timeout=120) as page:
            next(page.iter_raw())
            asked, waiting = list[Future[httpx.Response | None]](), 0.0
            while waiting < 100:
                if all(one.done() for one in asked):  # at first, or where we looked too late
                    asked += [pool.submit(ask, number) for number in range(16)]
                waiting = queued(http)
            process.send_signal(signal.SIGTERM)
            answers = [answer for one in asked if (answer := one.result())]
            output, _ = process.communicate(timeout=120)
    assert 16 * len(answers) >= waiting  # all that were waiting when it was told to stop
    assert {answer.status_code for answer in answers} == {200}
    assert all(len(answer.json()["pictures"]) == 16 for answer in answers)
    assert process.returncode == 0
    assert output == ""


def test_what_cannot_be_finished_is_refused_in_our_words(
    serving: Callable[..., AbstractContextManager[subprocess.Popen[str]]],
    free_port: Callable[[], int],
    tiny_model: ModelFolder,
    tmp_path: Path,
    wait_until: Callable[[Callable[[], bool]], None],
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    flags = ("--engine", "fake", "--deadline-ms", "60000", "--queue-limit", "2000")

    def ask(number: int) -> httpx.Response | None:
        body = {"prompt": "a", "count": 16, "client_id": str(number)}
        try:
            return http.post("/generate", json=body)
        except httpx.TransportError:  # it came too late to be accepted
            return None

    with (
        serving(tiny_model.path, port, tmp_path, *flags, "--grace-s", "2") as process,
        ThreadPoolExecutor(64) as pool,
        httpx.Client(base_url=url, timeout=120) as http,
    ):
        http.get("/generate?prompt=a")
        asked = [pool.submit(ask, number) for number in range(64)]
        wait_until(lambda: queued(http) > 400)  # which take 1.8 s
        process.send_signal(signal.SIGTERM)
        answers = [answer for one in asked if (answer := one.result())]
        process.communicate(timeout=120)
    refused = [answer for answer in answers if answer.status_code != 200]
    assert refused
    for answer in refused:
        assert answer.status_code == 503
        assert "stopping" in answer.json()["error"]["message"]
        assert int(answer.headers["retry-after"]) > 0
    assert process.returncode == 0


def test_who_leaves_bentoml_s_own_route_is_not_drawn_for(
    serving: Callable[..., AbstractContextManager[subprocess.Popen[str]]],
    free_port: Callable[[], int],
    tiny_model: ModelFolder,
    tmp_path: Path,
    wait_until: Callable[[Callable[[], bool]], None],
) -> None:
    port = free_port()
    body = b'{"prompt": "a"}'
    head = b"POST /bentoml/generate HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
    head += b"Content-Length: %d\r\n\r\n" % len(body)

    def left() -> bool:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(head + body)
            time.sleep(0.01)  # of the 22 ms that a picture takes
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
        return re.search(r'^sidestep_refused_total\{.*reason="left"\}', metrics, re.M) is not None

    with serving(tiny_model.path, port, tmp_path, "--engine", "fake"):
        wait_until(left)


def speaks_bentoml(http: httpx.Client, expected: bytes) -> None:
    """BentoML's own client draws the same bytes, and errors have our shape."""
    program = f"""
import sys, bentoml
with bentoml.SyncHTTPClient({str(http.base_url)!r}) as client:
    sys.stdout.buffer.write(client.generate(prompt="red apple", seed=7))
"""
    drawn = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert drawn.stdout == expected
    body = {"prompt": "red apple", "seed": 7}
    native = http.post("/bentoml/generate", json=body)
    assert native.content == expected
    assert native.headers["x-seed"] == "7"
    assert "total;dur=" in native.headers["server-timing"]
    late = http.post("/bentoml/generate", json=body, headers={"X-Deadline-Ms": "1"})
    assert (late.status_code, late.json()["error"]["code"]) == (429, "busy")
    refused = http.post("/bentoml/generate", json={**body, "seed": -1})
    assert refused.status_code == 422
    assert refused.json()["error"]["field"] == "seed"


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
from sidestep.images import read_recipe
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
