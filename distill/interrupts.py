"""Stop a long run in good order: Ctrl-C, or the SIGTERM of a job scheduler."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ONE_PRESS_S = 1.0  # torchrun sends on what its processes have had from the terminal themselves


class StopRequest:
    """Whether somebody asked the run to stop; the loop looks after each step."""

    asked = False


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request; a later second ends the process as usual.

    What follows within ONE_PRESS_S belongs to the first.
    """
    request = StopRequest()
    before: dict[int, Any] = {}
    asked_at = 0.0

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        before.clear()

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked_at
        if not request.asked:
            request.asked, asked_at = True, time.monotonic()
        elif time.monotonic() - asked_at > ONE_PRESS_S:
            restore()
            os.kill(os.getpid(), number)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, ask)
    try:
        yield request
    finally:
        restore()
