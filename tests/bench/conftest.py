"""An event loop whose time passes as fast as nothing happens, and a service that can be planted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest


class VirtualLoop(asyncio.SelectorEventLoop):
    """Skips to the next timer instead of waiting for it: timing without a clock."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        selector: Any = self._selector  # type: ignore[attr-defined]
        select = selector.select

        def skip(timeout: float | None = None) -> Any:
            self._now += timeout or 0.0
            return select(0)

        selector.select = skip

    def time(self) -> float:
        return self._now


@pytest.fixture
def virtually() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine in virtual time; returns its result."""

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(coroutine)

    return run
