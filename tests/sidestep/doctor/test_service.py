"""Settings and the port."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI

from serve.app import create_app
from serve.settings import Settings
from sidestep.doctor.service import check, check_port
from sidestep.engines.fake import FakeEngine
from sidestep.generator import Generator


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that this process listens on and never answers at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_free_port(free_port: Callable[[], int]) -> None:
    assert check_port("127.0.0.1", free_port()).level == "ok"


def test_a_taken_port_names_who_has_it_and_a_free_one(
    taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidestep.doctor.service.PATIENCE_S", 0.1)
    found = check_port("127.0.0.1", taken)
    assert found.level == "problem"
    if sys.platform == "linux":
        assert f"{taken} on 127.0.0.1 is held by process {os.getpid()} (" in found.text
    other = re.fullmatch(r"sidestep serve --port (\d+)", found.mend)
    assert other
    assert check_port("127.0.0.1", int(other[1])).level == "ok"


def test_a_sidestep_that_runs_is_no_problem(
    listen: Callable[[FastAPI], str], make_generator: Callable[[FakeEngine], Generator]
) -> None:
    url = listen(create_app(make_generator(FakeEngine(tokens=12)), Settings()))
    found = check_port("127.0.0.1", int(url.rpartition(":")[2]))
    assert found.level == "ok"
    assert "is a sidestep that runs already, with fake" in found.text


@pytest.mark.parametrize("host", ["192.0.2.1", "no-name.invalid", "two..dots"])  # none is given out
def test_an_address_of_another_machine(host: str) -> None:
    found = check_port(host, 3000)
    assert found.level == "problem"
    assert found.text == f"{host} is no address of this machine"


def test_settings_are_read_from_the_environment(
    taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidestep.doctor.service.PATIENCE_S", 0.1)
    monkeypatch.setenv("SIDESTEP_PORT", str(taken))
    settings, port = check()
    assert settings.text == "given are SIDESTEP_PORT"
    assert port.level == "problem"
    monkeypatch.setenv("SIDESTEP_PORT", "many")
    (wrong,) = check()
    assert (wrong.level, wrong.mend) == ("problem", "unset SIDESTEP_PORT")
