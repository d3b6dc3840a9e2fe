from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from distill import interrupts
from distill.interrupts import stop_requests


@pytest.fixture(autouse=True)
def terminal() -> Iterator[None]:
    """Python's own handler, as in a terminal: what a shell starts behind it ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


def test_one_press_that_arrives_twice_is_one_request() -> None:
    """Under torchrun the terminal sends it to every process, and torchrun sends it on."""
    with stop_requests() as request:
        press()
        press()
        press(signal.SIGTERM)
        assert request.asked
    with pytest.raises(KeyboardInterrupt):
        press()


def test_a_later_second_press_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "ONE_PRESS_S", 0.0)
    with stop_requests() as request:
        press()
        assert request.asked
        with pytest.raises(KeyboardInterrupt):
            press()
