"""Keys, rates, sizes and slow clients, over real connections."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serve.app import create_app
from serve.keys import add_key, revoke_key
from serve.service import service, worker
from serve.settings import Settings
from sidestep.client import Client
from sidestep.engines.fake import FakeEngine
from sidestep.errors import Forbidden, InvalidRequest, ServiceBusy, Unauthorized
from sidestep.generator import Generator
from sidestep.requests import GenerateRequest

Serve = Callable[..., str]
BODY = {"prompt": "a"}


def basic(secret: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{secret}".encode()).decode()


def test_each_request_needs_a_key(serve_with: Serve, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    secret = add_key(path, "anna")
    with httpx.Client(base_url=serve_with(keys=str(path)), timeout=60) as http:
        for headers in (
            {"Authorization": f"Bearer {secret}"},
            {"Authorization": f"bearer  {secret}"},
            {"X-API-Key": secret},
            {"Authorization": basic(secret)},
        ):
            assert http.post("/generate", json=BODY, headers=headers).status_code == 200
        for headers in (
            {},
            {"Authorization": f"Bearer {secret[:-1]}"},
            {"Authorization": "Bearer"},
            {"Authorization": f"Token {secret}"},
            {"Authorization": "Basic !!!"},
            {"Authorization": "Basic /w=="},
            {"X-API-Key": "\u00e9"},
        ):
            encoded = {name: value.encode("latin-1") for name, value in headers.items()}
            refused = http.post("/generate", json=BODY, headers=encoded)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Bearer")
            assert refused.json()["error"]["code"] == "unauthorized"
            assert secret[12:] not in refused.text
        document = http.get("/openapi.json", headers={"X-API-Key": secret}).json()
        assert {"bearer": []} in document["security"]
        for path_ in ("/metrics", "/openapi.json", "/docs", "/nope", "/ui/config"):
            assert http.get(path_).status_code == 401
        openai = http.post("/v1/images/generations", json=BODY)
        assert openai.status_code == 401
        assert set(openai.json()["error"]) == {"message", "type", "param", "code"}
        assert http.get("/livez").status_code == http.get("/readyz").status_code == 200
        page = http.get("/", headers={"Accept": "text/html,*/*"})
        assert page.status_code == 401
        assert page.headers["www-authenticate"].startswith("Basic"), "a browser asks for it"
        revoke_key(path, "anna")
        assert http.post("/generate", json=BODY, headers={"X-API-Key": secret}).status_code == 401


async def test_what_bentoml_answers_needs_a_key_too(
    make_generator: Callable[[FakeEngine], Generator],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "keys.json"
    key = {"X-API-Key": add_key(path, "anna")}
    monkeypatch.setenv("SIDESTEP_KEYS", str(path))
    app = create_app(make_generator(FakeEngine(tokens=12)), Settings.from_environment())
    monkeypatch.setattr(worker, "app", app)
    inside = httpx.ASGITransport(service.to_asgi())
    async with httpx.AsyncClient(transport=inside, base_url="http://here") as http:
        for route in ("/schema.json", "/schema.json%0A"):
            assert (await http.get(route)).status_code == 401
            assert (await http.get(route, headers=key)).status_code == 200
        assert (await http.post("/bentoml/generate", json=BODY)).status_code == 401
        for probe in ("/livez", "/healthz"):
            assert (await http.get(probe)).status_code == 200


def test_a_preflight_needs_no_key(serve_with: Serve, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add_key(path, "anna")
    url = serve_with(keys=str(path), cors_origins="https://home.example")
    asked = {"Origin": "https://home.example", "Access-Control-Request-Method": "POST"}
    assert httpx.options(f"{url}/generate", headers=asked, timeout=60).status_code == 200
    refused = httpx.post(f"{url}/generate", json=BODY, headers=asked, timeout=60)
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://home.example"


async def test_our_own_client_has_a_key(serve_with: Serve, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    anna, root = add_key(path, "anna"), add_key(path, "root", admin=True)
    url = serve_with(keys=str(path))
    async with Client(url) as client:
        with pytest.raises(Unauthorized, match="Authorization: Bearer"):
            await client.generate(GenerateRequest(prompt="a"))
    async with Client(url, key=anna) as client:
        assert len(await client.generate(GenerateRequest(prompt="a"))) == 1
        with pytest.raises(Forbidden, match="--admin"):
            await client.reload()
    async with Client(url, key=root) as client:
        assert [model["name"] for model in await client.reload()] == ["fake"]


def test_a_key_and_an_address_have_rates(serve_with: Serve, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    anna, bert, carl = (add_key(path, name) for name in ("anna", "bert", "carl"))
    url = serve_with(keys=str(path), rate_per_key=20, rate_per_address=40)

    def ask(key: str, count: int) -> httpx.Response:
        body = {"prompt": "a", "count": count}
        return httpx.post(f"{url}/generate", json=body, headers={"X-API-Key": key}, timeout=60)

    assert ask(anna, 16).status_code == 200
    refused = ask(anna, 16)
    assert refused.status_code == 429
    assert 25 < int(refused.headers["retry-after"]) <= 36
    assert "API key" in refused.json()["error"]["message"]
    assert ask(bert, 16).status_code == 200
    beyond = ask(carl, 16)
    assert beyond.status_code == 429
    assert "address" in beyond.json()["error"]["message"], "what a key's rate refuses is not in it"
    assert ask(carl, 8).status_code == 200, "what the address's rate refuses is not in the key's"
    metrics = httpx.get(f"{url}/metrics", headers={"X-API-Key": anna}, timeout=60).text
    assert 'sidestep_refused_total{model="fake",reason="rate"} 2.0' in metrics


def test_what_is_refused_is_not_charged(serve_with: Serve) -> None:
    url = serve_with(rate_per_address=16)
    body = {"prompt": "a", "count": 16}
    for _ in range(3):
        late = httpx.post(f"{url}/generate", json={**body, "deadline_ms": 1}, timeout=60)
        assert late.status_code == 429
        assert "deadline" in late.json()["error"]["message"]
    assert httpx.post(f"{url}/generate", json=body, timeout=60).status_code == 200
    refused = httpx.post(f"{url}/generate", json=body, timeout=60)
    assert "16 pictures a minute" in refused.json()["error"]["message"]


async def test_who_passed_no_guard_has_no_key(
    make_generator: Callable[[FakeEngine], Generator], tmp_path: Path
) -> None:
    add_key(tmp_path / "keys.json", "anna")
    generator = make_generator(FakeEngine(tokens=12))
    app = create_app(generator, Settings(keys=str(tmp_path / "keys.json")))
    with pytest.raises(Unauthorized):
        await app.state.models.generate(GenerateRequest(prompt="a"))


def test_the_page_s_pictures_count_too(serve_with: Serve, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    headers = {"Authorization": basic(add_key(path, "anna"))}
    url = serve_with(keys=str(path), rate_per_key=16)

    def draw(count: int) -> dict[str, Any]:
        data = {"data": ["a", "7", count, "fake", "tab"]}
        page = f"{url}/ui/gradio_api/run/draw"
        answer = httpx.post(page, json=data, headers=headers, timeout=300)
        assert answer.status_code == 200
        drawn: dict[str, Any] = answer.json()["data"][0]
        return drawn

    assert len(draw(16)["pictures"]) == 16
    assert "API key may draw 16 pictures" in draw(16)["error"]["message"]


async def test_a_rate_is_busy_to_our_client(serve_with: Serve) -> None:
    async with Client(serve_with(rate_per_address=16)) as client:
        request = GenerateRequest(prompt="a", count=16)
        assert len(await client.generate(request)) == 16
        with pytest.raises(ServiceBusy, match="16 pictures a minute") as refused:
            await client.generate(request)
        assert refused.value.retry_after_s > 30


def test_one_key_cannot_supersede_another_s_requests(
    make_generator: Callable[[FakeEngine], Generator],
    listen: Callable[[FastAPI], str],
    wait_until: Callable[[Callable[[], bool]], None],
    tmp_path: Path,
) -> None:
    path, gate = tmp_path / "keys.json", threading.Event()
    anna, bert = (add_key(path, name) for name in ("anna", "bert"))
    gate.set()
    generator = make_generator(FakeEngine(tokens=12, before=lambda _: gate.wait(60)))
    app = create_app(generator, Settings(keys=str(path), deadline_ms=600_000))
    url = listen(app)
    batcher = app.state.models.of(None).batcher

    def ask(key: str, client: str) -> int:
        body = {"prompt": "a", "client_id": client, "supersede": True}
        asked = httpx.post(f"{url}/generate", json=body, headers={"X-API-Key": key}, timeout=120)
        return asked.status_code

    gate.clear()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, anna, "holder")]
        wait_until(lambda: bool(batcher.calls()))
        asked.append(pool.submit(ask, anna, "c" * 128))
        wait_until(lambda: batcher.queued == 1)
        asked.append(pool.submit(ask, bert, "c" * 128))
        wait_until(lambda: batcher.queued == 2 or asked[1].done())
        newer = pool.submit(ask, bert, "c" * 128)
        wait_until(asked[2].done)
        gate.set()
        assert [one.result() for one in (*asked, newer)] == [200, 200, 409, 200]


@pytest.mark.parametrize("path", ["/generate", "/v1/images/generations", "/nope", "/ui/"])
def test_oversize_headers(serve_with: Serve, path: str) -> None:
    with httpx.Client(base_url=serve_with(), timeout=60) as http:
        large = http.post(path, json=BODY, headers={"X-Padding": "x" * 20_000})
        assert large.status_code == 431
        assert "16,384 bytes" in large.json()["error"]["message"]
        many = http.post(path, json=BODY, headers={f"X-{i}": "x" * 20 for i in range(700)})
        assert many.status_code == 431
        with socket.create_connection((http.base_url.host, http.base_url.port or 0)) as endless:
            endless.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nX-A: " + b"x" * 100_000)
            assert endless.recv(100).startswith(b"HTTP/1.1 431")
        assert http.get("/readyz").status_code == 200


def raw(url: str, head: str, body: bytes = b"") -> bytes:
    """Send what no client would, and read until the service closes."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + body)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


@pytest.mark.parametrize("path", ["/generate", "/v1/images/generations"])
def test_a_body_that_never_comes(serve_with: Serve, path: str) -> None:
    url = serve_with(receive_s=1)
    head = f"POST {path} HTTP/1.1\nHost: a\nContent-Type: application/json\nContent-Length: 20\n\n"
    answer = raw(url, head, b'{"prompt":')
    assert answer.startswith(b"HTTP/1.1 408")
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert error["code"] == "slow_client"
    text = httpx.get(f"{url}/metrics", timeout=60).text
    assert 'sidestep_refused_total{model="",reason="slow"} 1.0' in text


def test_a_file_of_keys_must_be_there(
    make_generator: Callable[[FakeEngine], Generator], tmp_path: Path
) -> None:
    from serve.run import check_guards

    with pytest.raises(InvalidRequest, match="sidestep keys add"):
        check_guards(Settings(keys=str(tmp_path / "nope.json")))
