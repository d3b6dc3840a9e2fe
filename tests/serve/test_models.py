"""Several models behind one service, and models that are replaced while they draw."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serve.app import create_app
from serve.models import Models
from serve.settings import Settings
from sidestep.engines.fake import FakeEngine
from sidestep.errors import InvalidModel, ServiceBusy, ServiceUnavailable, Superseded
from sidestep.generator import Generator
from sidestep.images import read_recipe
from sidestep.model_folder import ONNX, ModelFolder
from sidestep.requests import GenerateRequest
from sidestep.tokenizer import PromptTokenizer


class Tinted(FakeEngine):
    """Another model: the same noise, one level darker."""

    def __call__(self, input_ids, noise):  # type: ignore[no-untyped-def]
        return super().__call__(input_ids, noise) // 2


def named(name: str, tokenizer: PromptTokenizer, engine: FakeEngine) -> Generator:
    return Generator(name, tokenizer, engine)


async def test_pictures_that_nobody_began_are_not_charged(tokenizer: PromptTokenizer) -> None:
    gate = threading.Event()
    gate.set()
    engine = FakeEngine(tokens=12, before=lambda _: gate.wait(60))
    models = Models([named("m", tokenizer, engine)], Settings(rate_per_address=16))
    await models.start()
    gate.clear()

    def ask(count: int, client: str = "typist") -> asyncio.Task[Any]:
        values = {"prompt": "a", "count": count, "client_id": client, "supersede": True}
        request = GenerateRequest.parse(values)
        return asyncio.ensure_future(models.generate(request, address="here"))

    first = ask(1, "another")
    while not models.of(None).batcher.calls():
        await asyncio.sleep(0.005)
    replaced, gone = ask(6), ask(6, "leaves")
    await asyncio.sleep(0.1)
    newest = ask(1)
    gone.cancel()
    with pytest.raises(Superseded):
        await replaced
    with pytest.raises(asyncio.CancelledError):
        await gone
    again = ask(14, "third")  # of 16 two are drawn
    await asyncio.sleep(0.1)
    gate.set()
    assert [len(await one) for one in (first, newest, again)] == [1, 1, 14]
    with pytest.raises(ServiceBusy, match="16 pictures a minute"):
        await ask(4)
    await models.stop()


@pytest.fixture(scope="module")
def app(tokenizer: PromptTokenizer) -> FastAPI:
    bright, dark = FakeEngine(tokens=12), Tinted(tokens=12)
    return create_app(
        named("bright", tokenizer, bright), Settings(), named("dark", tokenizer, dark)
    )


@pytest.fixture(scope="module")
def url(app: FastAPI, listen: Callable[[FastAPI], str]) -> str:
    return listen(app)


def ask(http: httpx.Client, **values: object) -> httpx.Response:
    return http.post("/generate", json={"prompt": "red apple", "seed": 7, **values})


def test_requests_choose_a_model_by_name(http: httpx.Client) -> None:
    first, bright, dark = ask(http), ask(http, model="bright"), ask(http, model="dark")
    assert first.content == bright.content != dark.content
    recipes = [read_recipe(one.content) for one in (first, dark)]
    assert [one.model for one in recipes if one] == ["bright", "dark"]
    address = {"prompt": "red apple", "seed": "7"}
    assert http.get("/generate", params={**address, "model": "dark"}).content == dark.content
    assert ask(http, model="gpt-image-1").content == first.content


def test_an_unknown_model_lists_the_known(http: httpx.Client) -> None:
    told = ask(http, model="pale")
    assert told.status_code == 404
    assert told.json()["error"]["code"] == "model_not_found"
    assert told.json()["error"]["field"] == "model"
    assert "bright, dark" in told.json()["error"]["message"]
    seeded = http.get("/generate", params={"prompt": "a", "seed": "7", "model": "pale"})
    assert seeded.status_code == 404
    openai = http.post("/v1/images/generations", json={"prompt": "a", "model": "pale"})
    assert openai.status_code == 404
    assert openai.json()["error"]["param"] == "model"
    assert "bright, dark" in openai.json()["error"]["message"]


def test_openai_s_clients_find_all_models(http: httpx.Client) -> None:
    listed = http.get("/v1/models").json()["data"]
    assert [one["id"] for one in listed] == ["bright", "dark"]
    assert "gpt-image-1" in listed[0]["aliases"]
    assert listed[1]["aliases"] == []
    assert http.get("/v1/models/dark").json() == listed[1]
    assert http.get("/v1/models/gpt-image-1").json()["id"] == "bright"
    body = {"prompt": "red apple", "seed": 7, "model": "dark"}
    drawn = http.post("/v1/images/generations", json=body).json()["data"][0]["b64_json"]
    assert base64.b64decode(drawn) == ask(http, model="dark").content


def test_each_model_has_its_own_tag_and_metrics(http: httpx.Client) -> None:
    address = {"prompt": "red apple", "seed": "7"}
    tags = {
        http.get("/generate", params={**address, "model": name}).headers["etag"]
        for name in ("bright", "dark")
    }
    assert len(tags) == 2
    text = http.get("/metrics").text
    for name in ("bright", "dark"):
        assert f'sidestep_ready{{model="{name}"}} 1.0' in text
        assert f'sidestep_pictures_total{{format="png",model="{name}"}}' in text


async def test_the_same_seed_is_the_same_noise_in_every_model(tokenizer: PromptTokenizer) -> None:
    generators = [named(name, tokenizer, FakeEngine(tokens=12)) for name in "ab"]
    models = Models(generators, Settings(recipe=False))
    await models.start()
    pictures = await asyncio.gather(
        *(
            models.generate(GenerateRequest(prompt="a", seed=2**40 + 3, count=4, model=name))
            for name in "ab"
        )
    )
    await models.stop()
    assert [p.data for p in pictures[0]] == [p.data for p in pictures[1]]


async def test_a_model_is_replaced_while_it_draws_and_nothing_is_dropped(
    tokenizer: PromptTokenizer,
) -> None:
    gate = threading.Event()
    gate.set()
    old = named("m", tokenizer, FakeEngine(tokens=12, before=lambda _: gate.wait(20)))
    old.again = lambda: named("m", tokenizer, Tinted(tokens=12))
    models = Models([old], Settings())
    await models.start()
    before = models.of("m")
    request = GenerateRequest(prompt="a", seed=1, count=16)
    gate.clear()
    asked = [asyncio.ensure_future(models.generate(request)) for _ in range(4)]
    while before.batcher.queued < 40:
        await asyncio.sleep(0.005)
    await models.reload("m")
    fresh = await models.generate(request)
    assert not any(one.done() for one in asked), "the old engine is still held"
    gate.set()
    answers = await asyncio.gather(*asked)
    while before.batcher.ready:
        await asyncio.sleep(0.005)
    assert models.ready
    await models.stop()
    expected = [p.data for p in old.generate(request)]
    assert all([p.data for p in pictures] == expected for pictures in answers)
    assert [p.data for p in fresh] != expected


@pytest.mark.parametrize("fault", ["folder", "engine"])
async def test_what_cannot_be_opened_anew_leaves_the_old_one_drawing(
    tokenizer: PromptTokenizer, fault: str
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("no memory")

    def again() -> Generator:
        if fault == "folder":
            raise InvalidModel("weights do not match")
        return named("m", tokenizer, FakeEngine(tokens=12, before=broken))

    generator = named("m", tokenizer, FakeEngine(tokens=12))
    generator.again = again
    models = Models([generator], Settings())
    await models.start()
    threads = threading.active_count()
    expected, words = {
        "folder": (InvalidModel, "weights"),
        "engine": (ServiceUnavailable, "no memory"),
    }[fault]
    with pytest.raises(expected, match=words):
        await models.reload("m")
    assert len(await models.generate(GenerateRequest(prompt="a"))) == 1
    assert models.of("m").generator is generator
    assert threading.active_count() <= threads + 2, "the new one's threads have ended"
    assert 'sidestep_reloads_total{model="m",result="failed"} 1.0' in models.metrics.text().decode()
    await models.stop()


async def test_a_folder_is_read_again(tiny_model: ModelFolder) -> None:
    models = Models([Generator.load(tiny_model.path, name="mine")], Settings())
    await models.start()
    before = models.of("mine").generator
    assert (await models.reload("mine")) is not before
    graph = tiny_model.path / ONNX
    whole = graph.read_bytes()
    graph.write_bytes(whole[:1000])
    with pytest.raises(InvalidModel, match="damaged"):
        await models.reload("mine")
    assert len(await models.generate(GenerateRequest(prompt="a"))) == 1
    graph.write_bytes(whole)
    assert (await models.reload("mine")).name == "mine"
    await models.stop()
