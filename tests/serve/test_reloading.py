"""`POST /models/reload`, `sidestep models reload` and the watcher, on real folders."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import threading
import time
import weakref
from collections.abc import Callable

import httpx
import pytest
from fastapi import FastAPI

from serve.app import create_app
from serve.models import Models
from serve.service import Sidestep
from serve.settings import Settings
from sidestep.cli.main import main
from sidestep.engines.fake import FakeEngine
from sidestep.generator import Generator
from sidestep.images import read_recipe
from sidestep.model_folder import CARD, ONNX, ModelFolder, write_card
from sidestep.requests import MAX_DEADLINE_MS, GenerateRequest

Listen = Callable[[FastAPI], str]


@pytest.fixture
def url(tiny_model: ModelFolder, listen: Listen) -> str:
    generator = Generator.load(tiny_model.path, engine="onnx", name="mine")
    return listen(create_app(generator, Settings()))


def change(folder: ModelFolder) -> str:
    """Give the folder other weights, as a new distillation would; returns their hash."""
    path = folder.path / "unet" / "config.json"
    weights = next((folder.path / "unet").glob("*.safetensors"))
    path.write_text(path.read_text() + "\n")
    weights.write_bytes(weights.read_bytes() + b" ")
    return write_card(folder.path, folder.card).card.weights


def weights_of(url: str) -> str:
    answer = httpx.get(f"{url}/generate?prompt=a", timeout=60)
    recipe = read_recipe(answer.content)
    assert recipe is not None
    return str(recipe.weights)


def test_the_command_line(
    url: str, tiny_model: ModelFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["models", "reload", "--url", url])
    assert capsys.readouterr().out.startswith("mine: onnx-cpu, weights ")
    with pytest.raises(SystemExit) as left:
        main(["models", "reload", "yours", "--url", url])
    assert left.value.code == 2
    assert "must be one of mine" in capsys.readouterr().err
    (tiny_model.path / CARD).write_text("{")
    with pytest.raises(SystemExit) as left:
        main(["models", "reload", "mine", "--url", url])
    assert left.value.code == 2
    assert "InvalidModel" in capsys.readouterr().err
    assert httpx.get(f"{url}/generate?prompt=a", timeout=60).status_code == 200


async def test_who_leaves_stops_no_reload_and_starts_no_second(
    make_generator: Callable[[FakeEngine], Generator],
) -> None:
    opened, gate = [0], threading.Event()

    def again() -> Generator:
        opened[0] += 1
        assert gate.wait(20)
        new = make_generator(FakeEngine(tokens=12))
        new.again = again
        return new

    generator = make_generator(FakeEngine(tokens=12))
    generator.again = again
    models = Models([generator], Settings())
    await models.start()
    left = asyncio.ensure_future(models.reload(generator.name))
    while not opened[0]:
        await asyncio.sleep(0.001)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    second = asyncio.ensure_future(models.reload(generator.name))
    await asyncio.sleep(0.05)
    assert opened == [1], "two engines beside the first would not fit"
    gate.set()
    assert (await second).name == generator.name
    assert opened == [2]
    await models.stop()


async def test_a_model_that_drew_before_objects_were_frozen_is_let_go(
    make_generator: Callable[[FakeEngine], Generator],
) -> None:
    """The page freezes what there is when it is built; what was replaced must end all the same."""
    generator = make_generator(FakeEngine(tokens=12))
    generator.again = lambda: make_generator(FakeEngine(tokens=12))
    models = Models([generator], Settings())
    await models.start()
    await models.generate(GenerateRequest(prompt="red apple"))
    name, old = generator.name, weakref.ref(generator.engine)
    del generator
    gc.collect()
    gc.freeze()
    try:
        await models.reload(name)
        end = time.monotonic() + 20
        while old() is not None and time.monotonic() < end:
            await asyncio.sleep(0.05)
            gc.collect()
        assert old() is None
    finally:
        gc.unfreeze()
        await models.stop()


def test_bentoml_waits_for_the_longest_request() -> None:
    assert Sidestep.config["traffic"]["timeout"] * 1e3 > MAX_DEADLINE_MS


def test_only_this_machine_may_reload(http: httpx.Client) -> None:
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
        refused = http.post("/models/reload", json={}, headers={header: "127.0.0.1"})
        assert refused.status_code == 403
        assert refused.json()["error"]["code"] == "forbidden"
    assert http.post("/models/reload", content="{}").status_code == 415, "a page's form cannot"
    for body in ({"model": 3}, {"name": "mine"}):
        assert http.post("/models/reload", json=body).status_code == 422
    assert http.post("/models/reload", json={"model": "nope"}).status_code == 404
    assert http.post("/models/reload", json={}).json()["models"][0]["name"] == "mine"


def test_a_changed_folder_is_seen_and_a_damaged_one_waited_for(
    tiny_model: ModelFolder,
    listen: Listen,
    caplog: pytest.LogCaptureFixture,
    wait_until: Callable[[Callable[[], bool]], None],
) -> None:
    app = create_app(Generator.load(tiny_model.path, engine="onnx"), Settings(watch_s=1))
    url = listen(app)
    graph, card = tiny_model.path / ONNX, tiny_model.path / CARD
    whole = graph.read_bytes()
    graph.write_bytes(whole[:1000])
    card.write_text(json.dumps({**json.loads(card.read_text()), "examples": ["blue heart"]}))
    wait_until(lambda: reloads(url, "failed") >= 2)
    assert app.state.models.generators[0].examples == tiny_model.card.examples
    assert httpx.get(f"{url}/generate?prompt=a", timeout=60).status_code == 200
    assert caplog.text.count("tiny goes on as it was") == 1, "told of once"
    graph.write_bytes(whole)
    wait_until(lambda: reloads(url, "done") == 1)
    assert app.state.models.generators[0].examples == ("blue heart",)
    assert httpx.get(f"{url}/generate?prompt=a", timeout=60).status_code == 200


def reloads(url: str, result: str) -> float:
    text = httpx.get(f"{url}/metrics", timeout=60).text
    found = re.search(rf'^sidestep_reloads_total{{.*result="{result}"}} (\S+)$', text, re.M)
    return float(found[1]) if found else 0.0


def test_a_folder_with_other_weights_is_drawn_from(url: str, tiny_model: ModelFolder) -> None:
    before = weights_of(url)
    after = change(tiny_model)
    assert weights_of(url) == before != after
    told = httpx.post(f"{url}/models/reload", json={"model": "mine"}, timeout=60).json()
    assert told["models"] == [{"name": "mine", "engine": "onnx-cpu", "weights": weights_of(url)}]
