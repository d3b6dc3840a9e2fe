"""The Containerfile copies what serving needs, and starts as containers are started."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serve.app import create_app
from serve.settings import Settings
from sidestep.engines.fake import FakeEngine
from sidestep.generator import Generator

Started = Callable[..., AbstractContextManager[tuple[httpx.Client, "subprocess.Popen[str]"]]]
PIN = re.compile(r"^([\w.-]+)==([^\s;]+)", re.MULTILINE)


@pytest.fixture(scope="module")
def stages(containerfile: ModuleType, checkout: Path) -> dict[str, Any]:
    stages: dict[str, Any] = containerfile.read(checkout / "deploy" / "Containerfile", LOCK="serve")
    return stages


@pytest.fixture
def variables(stages: dict[str, Any]) -> dict[str, str]:
    return {k: v for one in stages["service"].all("ENV") for k, v in one.pairs().items()}


def test_every_stage_begins_with_the_base_of_the_builder(stages: dict[str, Any]) -> None:
    assert list(stages)[-1] == "service"
    for stage in stages.values():
        assert stage.source in stages or stage.source.startswith("docker.io/")
    text = " ".join(one.source for one in stages.values())
    assert ":latest" not in text


def test_what_is_copied_exists(stages: dict[str, Any], checkout: Path) -> None:
    copied = [one for stage in stages.values() for one in stage.all("COPY")]
    assert len(copied) > 5
    ignored = (checkout / ".dockerignore").read_text("utf-8").splitlines()
    sent = tuple(line[1:] for line in ignored if line.startswith("!"))
    for one in copied:
        for file in one.parts[:-1]:
            place = one.flags.get("from")
            assert place in stages if place else (checkout / file).exists(), one
            assert place or file.startswith(sent), file


def test_it_is_not_root_and_hears_signals(stages: dict[str, Any]) -> None:
    service = stages["service"]
    user, group = map(int, service.last("USER").text.split(":"))
    assert min(user, group) > 0
    for word in ("ENTRYPOINT", "CMD", "HEALTHCHECK"):
        assert service.last(word).exec_form, f"{word} would be a shell's child"
    assert not service.all("RUN")


def test_it_is_healthy_whatever_proxy_is_set(
    stages: dict[str, Any],
    make_generator: Callable[[FakeEngine], Generator],
    listen: Callable[[FastAPI], str],
) -> None:
    url = listen(create_app(make_generator(FakeEngine(tokens=12)), Settings()))
    environment = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    environment |= {"http_proxy": "http://127.0.0.1:9", "SIDESTEP_PORT": url.split(":")[-1]}
    check = [sys.executable, *stages["service"].last("HEALTHCHECK").parts[1:]]
    subprocess.run(check, env=environment, check=True, timeout=30)


def test_it_sets_what_the_service_reads(variables: dict[str, str], stages: dict[str, Any]) -> None:
    ours = {name: value for name, value in variables.items() if name.startswith("SIDESTEP_")}
    settings = Settings.from_environment(ours)
    assert set(ours) == {"SIDESTEP_HOST", "SIDESTEP_PORT"}
    assert ours.items() <= settings.to_environment().items()
    assert settings.host == "0.0.0.0"
    assert stages["service"].last("EXPOSE").text == str(settings.port)


def test_only_hashed_packages_are_installed(stages: dict[str, Any]) -> None:
    installed = [one.text for one in stages["packages"].all("RUN") if "pip install" in one.text]
    assert len(installed) == 1
    assert "--require-hashes --requirement /tmp/lock.txt" in installed[0]


@pytest.mark.parametrize("name", ["serve", "cuda"])
def test_the_locks_have_no_torch(checkout: Path, name: str) -> None:
    pins = dict(PIN.findall((checkout / "locks" / f"{name}.txt").read_text("utf-8")))
    assert not {"torch", "transformers", "diffusers"} & set(pins)
    assert ("onnxruntime-gpu" in pins) == (name == "cuda")
    assert ("onnxruntime" in pins) == (name == "serve")  # both have the same files


def test_the_locks_agree(checkout: Path) -> None:
    locks = [(checkout / "locks" / f"{name}.txt").read_text("utf-8") for name in ("serve", "cuda")]
    serve, cuda = (dict(PIN.findall(text)) for text in locks)
    assert {name: cuda.get(name) for name in serve if name != "onnxruntime"} == {
        name: version for name, version in serve.items() if name != "onnxruntime"
    }


@pytest.fixture(scope="module")
def app(stages: dict[str, Any], checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's /app."""
    app = tmp_path_factory.mktemp("image") / "app"
    app.mkdir()
    for one in stages["app"].all("COPY"):
        *files, target = one.parts
        for file in files:
            found = checkout / file
            if found.is_dir():
                shutil.copytree(found, app / target)
            else:
                shutil.copy2(found, app / target)
    removed = re.search(r"rm -rf ([\w/. -]+?) &&", stages["app"].last("RUN").text)
    assert removed is not None
    for place in map(app.joinpath, removed[1].split()):
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    return app


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        ("generate octopus --seed 1 --out out", 0, "octopus-1.png"),
        ("models check", 0, "the certificate is of these weights"),
        ("models reload --url http://127.0.0.1:9", 1, "cannot be reached"),
    ],
)
def test_its_commands_need_nothing_of_the_checkout(
    without_the_checkout: Path, app: Path, tmp_path: Path, command: str, code: int, told: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sidestep", *command.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (without_the_checkout, app)))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert told in done.stdout + done.stderr


@pytest.mark.slow
def test_what_is_copied_draws(
    app: Path,
    stages: dict[str, Any],
    variables: dict[str, str],
    started: Started,
    tmp_path: Path,
    free_port: Callable[[], int],
) -> None:
    port = free_port()
    service = stages["service"]
    python, *command = [*service.last("ENTRYPOINT").parts, *service.last("CMD").parts]
    assert python == "python"
    environment = {name: value for name, value in variables.items() if name != "PATH"}
    environment |= {"PYTHONPATH": str(app), "HOME": str(tmp_path), "SIDESTEP_HOST": "127.0.0.1"}
    environment |= {"SIDESTEP_PORT": str(port)}
    command = [sys.executable, *command]
    with started(command, tmp_path, port, **environment) as (http, process):
        answer = http.post("/generate", json={"prompt": "red apple", "seed": 7})
        assert answer.content == Generator.load()("red apple", seed=7).data
        assert http.get("/ui/").status_code == 200
        check = [sys.executable, *service.last("HEALTHCHECK").parts[1:]]
        subprocess.run(check, env={**os.environ, **environment}, check=True, timeout=30)
        process.terminate()
        assert process.wait(timeout=60) == 0
    refused = subprocess.run(
        check, env={**os.environ, **environment}, check=False, capture_output=True
    )
    assert refused.returncode != 0, "nobody listens any more"
