from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from serve.delay import LOOK_EVERY_S, ROUNDS, LoopDelay
from serve.settings import Settings
from serve.studio import Studio
from sidestep.engines.fake import FakeEngine
from sidestep.errors import ServiceBusy, ServiceUnavailable, Superseded
from sidestep.generator import Generator
from sidestep.model_folder import ModelFolder
from sidestep.requests import GenerateRequest, Picture

MakeGenerator = Callable[[FakeEngine], Generator]


@pytest.mark.parametrize("engine", ["fake", "onnx"])
async def test_pictures_are_the_generators_own_byte_for_byte(
    make_generator: MakeGenerator, tiny_model: ModelFolder, engine: str
) -> None:
    generator = (
        make_generator(FakeEngine(tokens=12, delay_s=0.005, workers=2))
        if engine == "fake"
        else Generator.load(tiny_model.path, engine=engine)
    )
    studio = Studio(generator, Settings())
    await studio.start()
    requests = [
        GenerateRequest.parse({"prompt": prompt, "seed": seed, "count": count, "format": kind})
        for prompt, seed, count, kind in [
            ("red apple", 0, 1, "png"),
            ("octopus", 2**64 - 3, 3, "webp"),
            ("cat face", 5, 16, "jpeg"),
            ("fire engine", 1, 8, "png"),
        ]
    ]
    together = await asyncio.gather(*(studio.generate(request) for request in requests))
    await studio.stop()
    for request, pictures in zip(requests, together, strict=True):
        alone = generator.generate(request)
        assert [(p.data, p.seed, p.format) for p in pictures] == [
            (p.data, p.seed, p.format) for p in alone
        ]
        least_ms = 5 if engine == "fake" else 0
        assert all(p.timings.engine_ms > least_ms and p.timings.encode_ms > 0 for p in pictures)


async def test_pixels_are_gone_without_the_garbage_collector(
    make_generator: MakeGenerator,
) -> None:
    pixels: list[weakref.ref[Any]] = []
    studio = Studio(
        make_generator(FakeEngine(tokens=12)),
        Settings(),
        check=lambda drawn: pixels.append(weakref.ref(drawn)),
    )
    await studio.start()
    gc.disable()
    try:
        for _ in range(3):
            await studio.generate(GenerateRequest(prompt="red apple", count=2))
        kept = sum(one() is not None for one in pixels)
    finally:
        gc.enable()
    await studio.stop()
    assert len(pixels) == 6
    assert kept <= 2, "the engine's thread knows its last batch until the next"


async def test_a_cut_prompt_is_told_with_every_picture(make_generator: MakeGenerator) -> None:
    studio = Studio(make_generator(FakeEngine(tokens=12)), Settings())
    await studio.start()
    long = GenerateRequest(prompt="red apple " * 12 + "octopus", count=2)
    pictures = await studio.generate(long)
    await studio.stop()
    assert [p.dropped.endswith("apple octopus") for p in pictures] == [True, True]


async def test_a_cancelled_request_draws_nothing_more(make_generator: MakeGenerator) -> None:
    gate = threading.Event()
    gate.set()
    engine = FakeEngine(tokens=12, before=lambda _: gate.wait(10))
    studio = Studio(make_generator(engine), Settings())
    await studio.start()
    engine.batches.clear()
    gate.clear()
    first = asyncio.ensure_future(studio.generate(GenerateRequest(prompt="a")))
    while not engine.batches:
        await asyncio.sleep(0.001)
    second = asyncio.ensure_future(studio.generate(GenerateRequest(prompt="b", count=4)))
    while studio.batcher.queued < 4:
        await asyncio.sleep(0.001)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.set()
    await first
    await studio.stop()
    assert engine.batches == [1]


async def test_one_failing_picture_fails_its_request_and_no_other(
    make_generator: MakeGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = make_generator(FakeEngine(tokens=12))
    studio = Studio(generator, Settings())
    await studio.start()
    real = generator.picture

    def picture(prompt: str, *rest: object) -> Picture:
        if prompt == "bad":
            raise OSError("no room")
        return real(prompt, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(generator, "picture", picture)
    good, bad = await asyncio.gather(
        studio.generate(GenerateRequest(prompt="good", count=4)),
        studio.generate(GenerateRequest(prompt="bad", count=4)),
        return_exceptions=True,
    )
    await studio.stop()
    assert isinstance(good, list)
    assert len(good) == 4
    assert isinstance(bad, OSError)


async def test_a_stopped_studio_refuses(make_generator: MakeGenerator) -> None:
    studio = Studio(make_generator(FakeEngine(tokens=12)), Settings())
    await studio.start()
    await studio.stop()
    assert not studio.ready
    with pytest.raises(ServiceUnavailable, match="stopping"):
        await studio.generate(GenerateRequest(prompt="a"))


async def test_a_newer_request_of_the_same_client_replaces_the_older(
    make_generator: MakeGenerator,
) -> None:
    gate = threading.Event()
    gate.set()
    engine = FakeEngine(tokens=12, before=lambda _: gate.wait(10))
    studio = Studio(make_generator(engine), Settings())
    await studio.start()
    engine.batches.clear()
    gate.clear()

    def ask(prompt: str, **values: object) -> asyncio.Future[list[Picture]]:
        request = GenerateRequest.parse({"prompt": prompt, "client_id": "tab", **values})
        return asyncio.ensure_future(studio.generate(request))

    grid = ask("grid")
    while not engine.batches:
        await asyncio.sleep(0.001)
    older = ask("red", supersede=True)
    while studio.batcher.queued < 1:
        await asyncio.sleep(0.001)
    newer = ask("red apple", supersede=True)
    with pytest.raises(Superseded, match="newer request"):
        await older
    gate.set()
    assert len(await grid) == len(await newer) == 1
    await studio.stop()
    assert engine.batches == [1, 1]


async def test_a_newer_request_takes_the_room_of_the_older(make_generator: MakeGenerator) -> None:
    gate = threading.Event()
    gate.set()
    engine = FakeEngine(tokens=12, before=lambda _: gate.wait(10))
    studio = Studio(make_generator(engine), Settings(queue_limit=16))
    await studio.start()
    gate.clear()
    holder = asyncio.ensure_future(studio.generate(GenerateRequest(prompt="a")))
    while not studio.batcher.calls():
        await asyncio.sleep(0.001)
    request = GenerateRequest(prompt="a", count=8, client_id="tab", supersede=True)
    older = asyncio.ensure_future(studio.generate(request))
    while studio.batcher.queued < 8:
        await asyncio.sleep(0.001)
    newer = asyncio.ensure_future(studio.generate(request))
    with pytest.raises(Superseded):
        await older
    gate.set()
    assert len(await newer) == 8
    assert len(await holder) == 1
    await studio.stop()


async def test_leaving_is_not_being_superseded(make_generator: MakeGenerator) -> None:
    gate = threading.Event()
    gate.set()
    studio = Studio(
        make_generator(FakeEngine(tokens=12, before=lambda _: gate.wait(10))), Settings()
    )
    await studio.start()
    gate.clear()
    request = GenerateRequest(prompt="a", client_id="tab", supersede=True)
    asked = asyncio.ensure_future(studio.generate(request))
    await asyncio.sleep(0.01)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    gate.set()
    assert len(await studio.generate(request)) == 1
    await studio.stop()


async def test_a_late_event_loop_counts_against_the_deadline(make_generator: MakeGenerator) -> None:
    studio = Studio(make_generator(FakeEngine(tokens=12)), Settings())
    await studio.start()
    await studio.delay.stop()
    now = 0.0
    studio.delay = LoopDelay(clock=lambda: now)
    studio.delay.expect()
    now += LOOK_EVERY_S + 2.0  # a round of the loop takes 2 s, and is not over yet
    with pytest.raises(ServiceBusy, match="predicted wait") as caught:
        await studio.generate(GenerateRequest(prompt="a", deadline_ms=10_000))
    assert caught.value.reason == "deadline"
    assert caught.value.wait_s == pytest.approx(2.0 * ROUNDS, abs=1.0)
    assert len(await studio.generate(GenerateRequest(prompt="a", deadline_ms=60_000))) == 1
    await studio.stop()
