"""The page as a browser gets it: over HTTP, mounted in the service."""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

import ui
from serve.app import create_app
from serve.settings import Settings
from sidestep.client import Client
from sidestep.engines.fake import FakeEngine
from sidestep.generator import Generator
from ui.alone import page_of
from ui.answers import MAX_FILE

Listen = Callable[[FastAPI], str]


@pytest.fixture(scope="module")
def service(make_generator: Callable[[FakeEngine], Generator], listen: Listen) -> str:
    return listen(create_app(make_generator(FakeEngine(tokens=12)), Settings()))


@pytest.fixture(scope="module")
def http(service: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service, timeout=60) as client:
        yield client


def call(http: httpx.Client, name: str, *data: Any, at: str = "/ui") -> dict[str, Any]:
    """Call an endpoint as the page does."""
    answer = http.post(f"{at}/gradio_api/run/{name}", json={"data": list(data)})
    assert answer.status_code == 200
    values: dict[str, Any] = answer.json()["data"][0]
    return values


def test_the_page_is_served_and_asks_no_other_host(http: httpx.Client) -> None:
    page = http.get("/ui/")
    assert page.status_code == 200
    assert http.get("/ui/config").json()["title"] == "sidestep"
    fetched = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="([^"]+)"', page.text)
    assert fetched
    assert not [url for url in fetched if re.match(r"(https?:)?//", url)]
    assert "googleapis" not in page.text
    theme = http.get("/ui/theme.css").text
    assert not re.findall(r"url\(['\"]?https?:", theme)
    assert "@import" not in theme
    assert http.get("/ui").status_code == 307


def test_the_page_s_own_files_are_served_under_the_name_of_their_contents(
    http: httpx.Client,
) -> None:
    found = re.search(r"page-[0-9a-f]{12}", http.get("/ui/").text)
    assert found is not None
    for file in (Path(ui.__file__).parent / "page").iterdir():
        served = http.get(f"/ui/{found[0]}/{file.name}")
        assert served.content == file.read_bytes()
        if file.suffix == ".js":
            assert "javascript" in served.headers["content-type"]
            assert not re.findall(r"https?://", served.text)


def test_the_page_shows_the_api_s_exact_bytes(http: httpx.Client) -> None:
    seed = 2**64 - 1
    answer = call(http, "draw", "red apple", str(seed), 1, "fake", "tab")
    (picture,) = answer["pictures"]
    assert picture["seed"] == str(seed)
    wanted = http.post("/generate", json={"prompt": "red apple", "seed": seed})
    assert base64.b64decode(picture["data"]) == wanted.content
    recipe = call(http, "read", picture["data"])["recipe"]
    assert (recipe["prompt"], recipe["seed"]) == ("red apple", str(seed))


@pytest.mark.parametrize("route", ["call/draw", "queue/join", "upload", "run/predict"])
def test_nothing_else_can_be_posted(http: httpx.Client, route: str) -> None:
    body = {"data": ["a", "7", 1, "fake", "tab"], "fn_index": 0, "session_hash": "a"}
    refused = http.post(f"/ui/gradio_api/{route}", json=body)
    assert refused.status_code == 404
    assert refused.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    "route",
    [
        "file=https://example.com/",
        "file=https://example.com/gradio_api/theme.css",
        "file=/etc/passwd",
        "proxy=https://example.com/",
        "queue/data?session_hash=a",
        "call/draw/1",
        "openapi.json",
        "info/../file=https://example.com/",
    ],
)
def test_gradio_reads_nothing_for_anybody(http: httpx.Client, route: str) -> None:
    """Its `file=` would fetch whatever address a caller names."""
    with socket.create_connection((http.base_url.host, http.base_url.port)) as raw:
        raw.sendall(f"GET /ui/gradio_api/{route} HTTP/1.0\r\nHost: here\r\n\r\n".encode())
        answer = raw.makefile("rb").read()
    assert b" 404 " in answer.splitlines()[0]
    assert b'"not_found"' in answer


def test_a_page_that_opens_learns_what_draws_now(
    make_generator: Callable[[FakeEngine], Generator], listen: Listen
) -> None:
    app = create_app(make_generator(FakeEngine(tokens=12)), Settings())
    with httpx.Client(base_url=listen(app), timeout=60) as http:
        (first,) = http.get("/ui/models.json").json()
        assert first["name"] == "fake"
        app.state.models.generators[0].limits = "Fruit."
        again = http.get("/ui/models.json")
        assert again.json() == [{**first, "limits": "Fruit."}]
        assert again.headers["cache-control"] == "no-store"


def test_errors_are_answers(http: httpx.Client) -> None:
    assert "Seed must be" in call(http, "draw", "a", "x", 1, "", "tab")["error"]["message"]
    assert "not a PNG" in call(http, "read", "")["error"]["message"]


def test_the_page_s_bodies_have_a_bound(http: httpx.Client) -> None:
    largest = base64.b64encode(bytes(MAX_FILE)).decode("ascii")
    assert "not a PNG" in call(http, "read", largest)["error"]["message"]
    answer = http.post("/ui/gradio_api/run/read", json={"data": ["A" * 2**21]})
    assert answer.status_code == 413
    assert "2,097,152 bytes" in answer.json()["error"]["message"]


def test_the_page_never_waits_for_another_user(http: httpx.Client) -> None:
    values = http.get("/ui/config").json()
    assert [event["queue"] for event in values["dependencies"]] == [False, False]
    assert not values.get("analytics_enabled")


async def test_the_page_alone_draws_over_http(service: str, listen: Listen) -> None:
    async with Client(service) as client:
        (model,) = models = await client.models()
    assert (model.name, model.image_size) == ("fake", (32, 32))
    assert model.examples == ("red apple", "octopus")
    with httpx.Client(base_url=listen(page_of(Client(service), models)), timeout=60) as http:
        assert http.get("/").status_code == 200
        answer = call(http, "draw", "red apple", "7", 4, "fake", "tab", at="")
        pictures = [base64.b64decode(picture["data"]) for picture in answer["pictures"]]
    with httpx.Client(base_url=service, timeout=60) as http:
        wanted = http.post("/generate", json={"prompt": "red apple", "seed": 7, "count": 4})
    assert pictures == [base64.b64decode(one["data"]) for one in wanted.json()["pictures"]]
