"""A judge that learns twelve small pictures in seconds, a loop with its own time, a raw server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.http_client import Target
from bench.quality.judge_data import Labelled
from bench.quality.judge_training import JudgeOptions, train_judge

SIZE_PX = 32
# In words that the tiny models' tokenizer knows.
COLOURS = {"red": (220, 30, 30), "fire": (230, 170, 40), "blue": (40, 60, 220)}
SHAPES = ("apple", "heart")


def draw(colour: str, shape: str, style: str) -> NDArray[np.uint8]:
    """Draw a square (`apple`) or a cross (`heart`), in the style `noto` with a dark rim."""
    picture = np.full((SIZE_PX, SIZE_PX, 3), 255, np.uint8)
    thick = slice(11, 21)
    parts = [(slice(4, 28), thick), (thick, slice(4, 28))]
    for rows, columns in parts if shape == "heart" else [(slice(6, 26), slice(6, 26))]:
        if style == "noto":
            grown = slice(rows.start - 2, rows.stop + 2), slice(columns.start - 2, columns.stop + 2)
            picture[grown] = 20
        picture[rows, columns] = COLOURS[colour]
    return picture


@pytest.fixture(scope="session")
def judge_options() -> JudgeOptions:
    return JudgeOptions(
        features=16,
        width=8,
        layers=(1, 1, 1, 1),
        text_width=32,
        text_layers=1,
        size_px=SIZE_PX,
        steps=80,
        batch=12,
        warmup_steps=5,
    )


@pytest.fixture(scope="session")
def world() -> Labelled:
    cases = [(c, s, style) for style in ("flat", "noto") for c in COLOURS for s in SHAPES]
    test = np.zeros(len(cases), bool)
    test[7] = True  # the red heart in noto, whose flat twin is learned
    return Labelled(
        np.stack([draw(*case) for case in cases]),
        [f"{colour} {shape}" for colour, shape, _ in cases],
        [style for *_, style in cases],
        test,
    )


@pytest.fixture(scope="session")
def tiny_judge(
    world: Labelled, judge_options: JudgeOptions, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a judge that knows the world."""
    run = tmp_path_factory.mktemp("judge")
    train_judge(world, run, run / "judge", judge_options)
    return run / "judge"


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


class RawServer:
    """Sends the bytes of `answer(i)` for request i of all connections; None closes one."""

    def __init__(self, answer: Callable[[int], Awaitable[bytes | None]]) -> None:
        self.asked = self.connections = 0
        self.target = Target("127.0.0.1", 0, "/draw")
        self._answer = answer

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                number, self.asked = self.asked, self.asked + 1
                if (data := await self._answer(number)) is None:
                    break
                for start in range(0, len(data), 16):  # in pieces, as a network may
                    writer.write(data[start : start + 16])
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def _raw_server(
    answer: Callable[[int], Awaitable[bytes | None]],
) -> AsyncIterator[RawServer]:
    raw = RawServer(answer)
    async with await asyncio.start_server(raw, "127.0.0.1", 0) as listening:
        raw.target = Target("127.0.0.1", listening.sockets[0].getsockname()[1], "/draw")
        yield raw


@pytest.fixture
def raw_server() -> Callable[..., Any]:
    """A server that sends what it is told, as `async with raw_server(answer) as server`."""
    return _raw_server
