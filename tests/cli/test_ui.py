"""`sidestep ui`: the page of a service that runs elsewhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import httpx
import pytest
from fastapi import FastAPI

from serve.app import create_app
from serve.settings import Settings
from sidestep.cli.main import main
from sidestep.engines.fake import FakeEngine
from sidestep.generator import Generator


def test_it_shows_the_service_s_models_and_stops_when_told(
    make_generator: Callable[[FakeEngine], Generator],
    listen: Callable[[FastAPI], str],
    free_port: Callable[[], int],
) -> None:
    service = listen(create_app(make_generator(FakeEngine(tokens=12)), Settings()))
    port = str(free_port())
    code = "from sidestep.cli.main import main; main()"
    command = [sys.executable, "-c", code, "ui", "--url", service, "--port", port]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert f"http://127.0.0.1:{port}" in process.stdout.readline()
            page = httpx.get(f"http://127.0.0.1:{port}/", timeout=60)
            assert "red apple" in page.text, "the model's examples"
        finally:
            process.terminate()
        process.wait(timeout=60)


def test_what_cannot_be_reached_is_a_sentence(
    free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["ui", "--url", f"http://127.0.0.1:{free_port()}"])
    assert stopped.value.code == 1
    assert "cannot be reached" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["ui", "--url", "no address"])
    assert stopped.value.code in (1, 2)
    assert "Traceback" not in capsys.readouterr().err
