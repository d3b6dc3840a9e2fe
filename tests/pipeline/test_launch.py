"""Processes under a launcher that are stopped, or fail; a script stands in for torchrun."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distill.options import DistillOptions
from sidestep.errors import InvalidTraining, Stopped
from sidestep.pipeline.launch import distil_together
from sidestep.pipeline.options import RunOptions

Launch = Callable[[str], None]


@pytest.fixture
def launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Launch:
    """Return what distils in `tmp_path` with a shell script in torchrun's place."""
    options = RunOptions("sd15", DistillOptions(), tmp_path, ("pizza",), tmp_path, processes=2)

    def run(script: str) -> None:
        program = tmp_path / "torchrun"
        program.write_text(f"#!/bin/sh\ncd {tmp_path}\nsleep 0.5\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        distil_together(options, tmp_path)

    return run


@pytest.fixture(autouse=True)
def ctrl_c_interrupts() -> Iterator[None]:
    """As in a terminal: what a shell starts in the background ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def sigterm_exits() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    yield
    signal.signal(signal.SIGTERM, before)


def test_processes_that_fail_are_told(launch: Launch) -> None:
    with pytest.raises(InvalidTraining, match="the 2 processes ended with exit code 3"):
        launch("exit 3")


def test_torchrun_leaves_time_to_save(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", raising=False)
    with pytest.raises(Stopped):
        launch("printf $TORCH_ELASTIC_SHUTDOWN_TIMEOUT > told")
    assert (tmp_path / "told").read_text() == "300"


def test_after_ctrl_c_the_run_is_stopped_though_torchrun_fails(launch: Launch) -> None:
    with pytest.raises(Stopped, match="stopped after 40 of"):
        launch("touch state-000040.safetensors; kill -INT $PPID; sleep 0.5; exit 1")


@pytest.mark.usefixtures("sigterm_exits")
def test_sigterm_ends_the_processes_and_waits_until_they_saved(
    launch: Launch, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as left:
        launch(
            "trap 'sleep 0.5; touch saved; exit 1' TERM; kill -TERM $PPID; "
            "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.5; done"
        )
    assert left.value.code == 143
    assert (tmp_path / "saved").exists()
