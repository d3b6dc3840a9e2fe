"""What a request gets does not depend on who else asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from numpy.typing import NDArray

from serve.app import create_app
from serve.settings import Settings
from sidestep.engines.contract import Engine
from sidestep.engines.fake import FakeEngine
from sidestep.generator import Generator

MIXED: list[dict[str, Any]] = [
    {"prompt": "red apple", "seed": 0},
    {"prompt": "red apple", "seed": 1, "count": 3},
    {"prompt": "octopus", "seed": 0, "format": "jpeg"},
    {"prompt": "cat face", "seed": 2**64 - 5, "count": 4, "format": "webp", "quality": 50},
    {"prompt": "fire engine, flat", "seed": 2**32, "deadline_ms": 60_000},
    {"prompt": "blue heart " * 30, "seed": 7},
    {"prompt": "é ☃ 🍎", "seed": 8, "count": 2, "client_id": "typist"},
    {"prompt": "soccer ball", "seed": 9, "client_id": "typist", "supersede": True},
]


class Held:
    """An engine whose calls wait for `open`."""

    def __init__(self, engine: Engine) -> None:
        self.spec, self._engine = engine.spec, engine
        self.open = threading.Event()
        self.open.set()
        self.calls = 0

    def __call__(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        self.calls += 1
        assert self.open.wait(60)
        return self._engine(input_ids, noise)


@pytest.mark.parametrize("engine", ["fake", "onnx"])
def test_eight_mixed_requests_draw_what_each_draws_alone(
    engine: str,
    built_model: Path,
    make_generator: Callable[[FakeEngine], Generator],
    listen: Callable[[FastAPI], str],
) -> None:
    if engine == "fake":
        generator = make_generator(FakeEngine(tokens=12))
    else:
        generator = Generator.load(built_model, engine="onnx")
    held = Held(generator.engine)
    app = create_app(Generator("held", generator.tokenizer, held), Settings())

    with (
        httpx.Client(base_url=listen(app), timeout=60) as client,
        ThreadPoolExecutor(len(MIXED)) as callers,
    ):

        def ask(body: dict[str, Any]) -> list[dict[str, Any]]:
            answer = client.post("/generate", json=body, headers={"Accept": "application/json"})
            assert answer.status_code == 200, answer.text
            pictures: list[dict[str, Any]] = answer.json()["pictures"]
            return pictures

        held.open.clear()
        held.calls = 0
        asked = [callers.submit(ask, body) for body in MIXED]
        batcher = app.state.models.of(None).batcher
        while held.calls < held.spec.workers or _waiting(batcher) < 14:
            time.sleep(0.005)
        held.open.set()
        together = [one.result() for one in asked]
        alone = [ask(body) for body in MIXED]

    assert max(p["timings"]["batch_size"] for pictures in together for p in pictures) > 1
    for body, beside, single in zip(MIXED, together, alone, strict=True):
        seen, wanted = ([(p["seed"], p["data"]) for p in ps] for ps in (beside, single))
        assert seen == wanted, body["prompt"]


def _waiting(batcher: Any) -> int:
    running: int = sum(len(call.jobs) for call in batcher._running.values())
    return running + int(batcher.queued)
