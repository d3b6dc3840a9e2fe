"""An engine that hangs, and what comes back from it late."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from serve.settings import Settings
from serve.studio import Studio
from sidestep.engines.fake import FakeEngine
from sidestep.errors import ServiceUnavailable
from sidestep.generator import Generator
from sidestep.requests import GenerateRequest
from sidestep.tokenizer import PromptTokenizer

MakeGenerator = Callable[[FakeEngine], Generator]


class Hanging:
    """Engines that hang while told to."""

    def __init__(self, tokenizer: PromptTokenizer, workers: int = 1) -> None:
        self.open = threading.Event()
        self.open.set()
        gated = FakeEngine(tokens=12, workers=workers, before=lambda _: self.open.wait(120))
        self.workers, self.engines = workers, [gated]
        self.generator = Generator("m", tokenizer, self.engines[0], reopen=self._another)

    def _another(self) -> FakeEngine:
        self.engines.append(FakeEngine(tokens=12, workers=self.workers))
        return self.engines[-1]


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_hanging_call_is_given_up_and_the_engine_renewed(
    tokenizer: PromptTokenizer, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    hanging = Hanging(tokenizer, workers)
    studio = Studio(hanging.generator, Settings(hang_s=1))
    await studio.start()
    before = [p.data for p in await studio.generate(GenerateRequest(prompt="a", seed=1))]
    hanging.open.clear()
    asked = [
        asyncio.ensure_future(studio.generate(GenerateRequest(prompt="a", seed=1, count=16)))
        for _ in range(3)
    ]
    for one in asked:
        with pytest.raises(ServiceUnavailable, match="opened anew"):
            await one
    while not studio.ready:
        await asyncio.sleep(0.01)
    assert len(hanging.engines) == 2
    assert "hangs and is given up" in caplog.text
    drawn = [p.data for p in await studio.generate(GenerateRequest(prompt="a", seed=1))]
    assert drawn == before
    times = studio.batcher.device.times
    seconds = [times.seconds(size) for size in (1, 2, 4, 8)]
    hanging.open.set()  # the late results come back
    while studio.batcher._given_up:
        await asyncio.sleep(0.01)
    assert studio.ready
    assert [times.seconds(size) for size in (1, 2, 4, 8)] == seconds, "late times do not count"
    assert len(await studio.generate(GenerateRequest(prompt="a", count=16))) == 16
    assert studio.batcher.device.opened == 2
    await studio.stop()


async def test_a_service_stops_although_its_engine_hangs(tokenizer: PromptTokenizer) -> None:
    hanging = Hanging(tokenizer)
    studio = Studio(hanging.generator, Settings(hang_s=1))
    await studio.start()
    hanging.open.clear()
    asked = asyncio.ensure_future(studio.generate(GenerateRequest(prompt="a")))
    while not studio.batcher.calls():
        await asyncio.sleep(0.005)
    await studio.stop()
    with pytest.raises(ServiceUnavailable):
        await asked
    hanging.open.set()


async def test_a_slow_engine_is_not_a_hanging_one(make_generator: MakeGenerator) -> None:
    engine = FakeEngine(tokens=12, delay_s=0.4)  # a call may take 20 times that
    studio = Studio(make_generator(engine), Settings(hang_s=1))
    await studio.start()
    engine._delay_s = 2.0
    assert len(await studio.generate(GenerateRequest(prompt="a", deadline_ms=60_000))) == 1
    assert studio.batcher.device.opened == 1
    await studio.stop()
