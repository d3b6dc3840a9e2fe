"""What is killed, cut or set wrong under load: nothing that was accepted is lost in silence."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from serve.keys import add_key
from serve.settings import Settings
from serve.studio import Studio
from sidestep.engines.fake import FakeEngine
from sidestep.errors import ServiceBusy
from sidestep.generator import Generator
from sidestep.requests import GenerateRequest

MakeGenerator = Callable[[FakeEngine], Generator]
EMOJI = Path(__file__).parents[2] / "models" / "emoji"
LONG_S = 120


def test_the_service_is_killed_in_parts(
    serving: Callable[..., AbstractContextManager[subprocess.Popen[str]]],
    free_port: Callable[[], int],
    tmp_path: Path,
    wait_until: Callable[[Callable[[], bool]], None],
) -> None:
    port, keys = free_port(), tmp_path / "keys.json"
    secret = add_key(keys, "anna")
    url, headers = f"http://127.0.0.1:{port}", {"X-API-Key": secret}
    flags = ("--engine", "fake", "--keys", str(keys), "--receive-s", "2", "--grace-s", "60")

    def ask(_: int) -> int | None:
        body = {"prompt": "a", "count": 16, "deadline_ms": 60_000}
        try:
            answer = httpx.post(f"{url}/generate", json=body, headers=headers, timeout=LONG_S)
        except httpx.TransportError:
            return None
        return answer.status_code

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/readyz", timeout=LONG_S).status_code == 200
        except httpx.TransportError:
            return False

    with (
        serving(EMOJI, port, tmp_path, *flags) as process,
        ThreadPoolExecutor(8) as pool,
    ):
        guards_bentoml_s_route(url, headers)
        (worker,) = psutil.Process(process.pid).children()
        asked = [pool.submit(ask, number) for number in range(8)]
        wait_until(lambda: queued(url, headers) >= 32)
        os.kill(worker.pid, signal.SIGKILL)
        answers = {one.result() for one in asked}
        assert {None} <= answers <= {None, 200}, "each caller hears of it"
        wait_until(ready)
        (worker,) = psutil.Process(process.pid).children()
        asked = [pool.submit(ask, number) for number in range(8)]
        accepted = 0.0

        def enough() -> bool:
            nonlocal accepted
            accepted = queued(url, headers)
            return accepted >= 32

        wait_until(enough)
        process.kill()
        process.wait(LONG_S)
        answers_now = [one.result() for one in asked]
        assert set(answers_now) <= {None, 200}
        assert 16 * answers_now.count(200) >= accepted, "what was accepted is finished"
        worker.wait(LONG_S)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


def queued(url: str, headers: dict[str, str]) -> float:
    text = httpx.get(f"{url}/metrics", headers=headers, timeout=LONG_S).text
    line = next(line for line in text.splitlines() if line.startswith("sidestep_queued_pictures{"))
    return float(line.split()[-1])


def guards_bentoml_s_route(url: str, headers: dict[str, str]) -> None:
    """BentoML answers this route itself, and our guards stand before it all the same."""
    native = f"{url}/bentoml/generate"
    body = {"prompt": "a", "seed": 7}
    assert httpx.post(native, json=body, timeout=LONG_S).status_code == 401
    for also in ("%0A", "%0a?a=b"):
        assert httpx.post(f"{native}{also}", json=body, timeout=LONG_S).status_code == 401
    drawn = httpx.post(native, json=body, headers=headers, timeout=LONG_S)
    assert drawn.headers["x-seed"] == "7"
    large = httpx.post(native, json={"prompt": "a" * 100_000}, headers=headers, timeout=LONG_S)
    assert large.status_code == 413
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=LONG_S) as slow:
        slow.sendall(b"GET /readyz HTTP/1.1\r\n")
        assert slow.recv(1000).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("jump_s", [1e6, -1e6])
async def test_a_clock_that_jumps_changes_nothing(
    make_generator: MakeGenerator, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    """Deadlines, rates and the watchdog go by the monotonic clock."""
    real = time.time
    studio = Studio(make_generator(FakeEngine(tokens=12, delay_s=0.02)), Settings(hang_s=1))
    await studio.start()

    async def ask() -> int:
        request = GenerateRequest(prompt="a", count=4, deadline_ms=60_000)
        return len(await studio.generate(request))

    asked = [asyncio.ensure_future(ask()) for _ in range(16)]
    while not studio.batcher.calls():
        await asyncio.sleep(0.001)
    monkeypatch.setattr(time, "time", lambda: real() + jump_s)
    assert await asyncio.gather(*asked) == [4] * 16
    assert await ask() == 4
    assert studio.batcher.device.opened == 1
    await studio.stop()


async def test_poison_in_a_batch_fails_alone(make_generator: MakeGenerator) -> None:
    generator = make_generator(FakeEngine(tokens=12))
    poison = generator.tokenizer.encode("octopus").ids

    def before(ids: NDArray[np.int64]) -> None:
        if (ids == poison).all(axis=1).any():
            raise RuntimeError("poison")

    generator.engine._before = before  # type: ignore[attr-defined]
    studio = Studio(generator, Settings())
    await studio.start()
    prompts = ["red apple", "octopus", "cat face", "octopus", "fire engine"]
    answers = await asyncio.gather(
        *(studio.generate(GenerateRequest(prompt=prompt, count=3)) for prompt in prompts),
        return_exceptions=True,
    )
    await studio.stop()
    failed = [isinstance(answer, RuntimeError) for answer in answers]
    assert failed == [False, True, False, True, False]
    assert studio.batcher.device.opened == 1


async def test_every_request_beyond_capacity_is_told_so(make_generator: MakeGenerator) -> None:
    studio = Studio(make_generator(FakeEngine(tokens=12, delay_s=0.05)), Settings(queue_limit=16))
    await studio.start()
    request = GenerateRequest(prompt="a", count=4, deadline_ms=60_000)
    answers = await asyncio.gather(
        *(studio.generate(request, address=str(n)) for n in range(100)), return_exceptions=True
    )
    await studio.stop()
    drawn = [answer for answer in answers if isinstance(answer, list)]
    refused = [answer for answer in answers if isinstance(answer, ServiceBusy)]
    assert len(drawn) + len(refused) == 100
    assert refused
    assert len(drawn) >= 4
    assert all(len(pictures) == 4 for pictures in drawn)
