"""The client against the real routes, and against servers that are not ours."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from fastapi import FastAPI
from fastapi.responses import Response

from serve.app import create_app
from serve.batcher import Batcher
from serve.settings import Settings
from sidestep.client import Client
from sidestep.engines.fake import FakeEngine
from sidestep.errors import (
    InvalidRequest,
    RequestTooLarge,
    ServiceBusy,
    ServiceUnavailable,
    Superseded,
)
from sidestep.generator import Generator
from sidestep.requests import GenerateRequest

MakeGenerator = Callable[[FakeEngine], Generator]
Listen = Callable[[FastAPI], str]


@pytest.fixture(scope="module")
def generator(make_generator: MakeGenerator) -> Generator:
    return make_generator(FakeEngine(tokens=12))


@pytest.fixture(scope="module")
def url(generator: Generator, listen: Listen) -> str:
    return listen(create_app(generator, Settings()))


@pytest_asyncio.fixture
async def client(url: str) -> AsyncIterator[Client]:
    async with Client(url + "/") as client:
        yield client


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
async def test_pictures_are_the_generators_own(
    client: Client, generator: Generator, count: int, format: str
) -> None:
    values = {"prompt": "red apple", "seed": 2**64 - 3, "count": count, "format": format}
    request = GenerateRequest.parse(values)
    pictures = await client.generate(request)
    assert [(p.data, p.seed, p.format) for p in pictures] == [
        (p.data, p.seed, p.format) for p in generator.generate(request)
    ]
    assert all(p.timings.engine_ms > 0 and p.timings.batch_size == count for p in pictures)


@pytest.mark.parametrize("count", [1, 2])
async def test_a_drawn_seed_and_the_dropped_words_come_back(client: Client, count: int) -> None:
    prompt = "red apple " * 12 + "naïve"
    pictures = await client.generate(GenerateRequest(prompt=prompt, count=count))
    assert 0 <= pictures[0].seed < 2**32
    assert pictures[0].dropped.endswith("apple naïve")


async def test_what_the_service_refuses_names_its_field(client: Client) -> None:
    request = GenerateRequest.model_construct(prompt="a", count=1000)  # a newer client's request
    with pytest.raises(InvalidRequest, match="count must be") as caught:
        await client.generate(request)
    assert caught.value.field == "count"


async def test_a_full_and_a_stopped_service(make_generator: MakeGenerator, listen: Listen) -> None:
    gate = threading.Event()
    gate.set()
    engine = FakeEngine(tokens=12, before=lambda _: gate.wait(10))
    app = create_app(make_generator(engine), Settings(queue_limit=16))
    async with Client(listen(app)) as client:
        batcher: Batcher = app.state.models.of(None).batcher
        gate.clear()
        warm = len(engine.batches)
        drawn = asyncio.ensure_future(client.generate(GenerateRequest(prompt="a")))
        while len(engine.batches) == warm:
            await asyncio.sleep(0.005)
        waiting = asyncio.ensure_future(client.generate(GenerateRequest(prompt="a", count=16)))
        while batcher.queued < 16:
            await asyncio.sleep(0.005)
        with pytest.raises(ServiceBusy) as caught:
            await client.generate(GenerateRequest(prompt="a"))
        assert caught.value.retry_after_s >= 1
        stopping = asyncio.ensure_future(asyncio.to_thread(batcher.stop))
        with pytest.raises(ServiceUnavailable, match="stopping"):
            await waiting
        gate.set()
        await stopping
        assert len(await drawn) == 1
        with pytest.raises(ServiceUnavailable, match="stopping"):
            await client.generate(GenerateRequest(prompt="a"))


async def test_nobody_listens() -> None:
    async with Client("http://127.0.0.1:9") as client:
        with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:9 cannot be reached"):
            await client.generate(GenerateRequest(prompt="a"))


async def test_it_waits_as_long_as_the_deadline_that_it_sends(
    make_generator: MakeGenerator, listen: Listen
) -> None:
    slow = make_generator(FakeEngine(tokens=12, delay_s=0.3))
    async with Client(listen(create_app(slow, Settings())), timeout_s=0.1) as client:
        with pytest.raises(ServiceUnavailable, match="ReadTimeout"):
            await client.generate(GenerateRequest(prompt="a"))
        request = GenerateRequest(prompt="a", deadline_ms=60_000)
        assert len(await client.generate(request)) == 1


async def test_this_machine_is_asked_past_any_proxy(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for address in (url, url.replace("127.0.0.1", "localhost")):
        async with Client(address) as client:
            assert [model.name for model in await client.models()] == ["fake"]
    async with Client("http://192.0.2.1") as client:
        with pytest.raises(ServiceUnavailable, match="All connection attempts failed"):
            await client.models()


@pytest.mark.parametrize("url", ["http://[::1", "http://a:b", "nonsense", ""])
async def test_what_is_no_address(url: str) -> None:
    with pytest.raises(InvalidRequest, match="the address is not a URL"):
        await Client(url).models()


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines"])
def test_a_key_that_no_header_can_have(key: str) -> None:
    with pytest.raises(InvalidRequest, match="the API key must be") as caught:
        Client("http://127.0.0.1:9", key=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (Response("<html>", 200, media_type="text/html"), ServiceUnavailable),
        (Response('{"pictures": [{}]}', 200, media_type="application/json"), ServiceUnavailable),
        (Response("", 200, media_type="image/png"), ServiceUnavailable),
        (Response("Bad gateway", 502), ServiceUnavailable),
        (Response("[]", 404, media_type="application/json"), InvalidRequest),
        (Response("too large", 413), RequestTooLarge),
        (Response("", 429, {"Retry-After": "7"}), ServiceBusy),
        (Response("", 409), Superseded),
    ],
    ids=lambda value: str(getattr(value, "status_code", "")),
)
async def test_other_servers_answers(
    listen: Listen, response: Response, expected: type[Exception]
) -> None:
    app = FastAPI()
    app.add_api_route("/generate", lambda: response, methods=["POST"])
    async with Client(listen(app)) as client:
        with pytest.raises(expected):
            await client.generate(GenerateRequest(prompt="a"))
