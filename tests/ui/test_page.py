"""The page as a browser gets it: over HTTP, mounted in the service."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serve.app import create_app
from serve.settings import Settings
from sidestep.engines.fake import FakeEngine
from sidestep.generator import Generator


@pytest.fixture(scope="module")
def http(
    make_generator: Callable[[FakeEngine], Generator], listen: Callable[[FastAPI], str]
) -> Iterator[httpx.Client]:
    url = listen(create_app(make_generator(FakeEngine(tokens=12)), Settings()))
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


def config(http: httpx.Client) -> dict[str, Any]:
    values: dict[str, Any] = http.get("/ui/config").json()
    return values


def edit(http: httpx.Client, prompt: str, seed: str, keep: bool = True) -> list[Any]:
    """Send the page's event as the browser does; returns what it paints."""
    event = {"data": [prompt, seed, keep, None], "fn_index": 0, "session_hash": "test"}
    painted: list[Any] = http.post("/ui/gradio_api/run/predict", json=event).json()["data"]
    return painted


def test_the_page_is_served_and_asks_no_other_host(http: httpx.Client) -> None:
    page = http.get("/ui/")
    assert page.status_code == 200
    assert config(http)["title"] == "sidestep"
    fetched = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="([^"]+)"', page.text)
    assert fetched
    assert not [url for url in fetched if re.match(r"(https?:)?//", url)]
    assert "googleapis" not in page.text
    theme = http.get("/ui/theme.css").text
    assert not re.findall(r"url\(['\"]?https?:", theme)
    assert "@import" not in theme
    assert http.get("/ui").status_code == 307


def test_the_page_shows_the_api_s_exact_bytes(http: httpx.Client) -> None:
    seed = 2**64 - 1
    _, picture, report, *_ = edit(http, "red apple", str(seed))
    found = re.search(r"base64,([^\"]+)", picture)
    assert found is not None
    answer = http.post("/generate", json={"prompt": "red apple", "seed": seed})
    assert base64.b64decode(found[1]) == answer.content
    assert "engine <b>" in report


def test_an_error_leaves_the_picture(http: httpx.Client) -> None:
    _, picture, report, *_ = edit(http, "red apple", "seven")
    assert isinstance(picture, dict)  # an update without a value
    assert "value" not in picture
    assert "Seed must be a whole number" in report


def test_the_event_follows_every_edit_and_never_waits_for_another_user(http: httpx.Client) -> None:
    values = config(http)
    event = values["dependencies"][0]
    assert event["trigger_mode"] == "always_last"
    assert not event["queue"]
    assert event["show_progress"] == "hidden"
    names = {c["id"]: c["props"].get("elem_id") for c in values["components"]}
    triggers = {(names.get(target), name) for target, name in event["targets"]}
    assert {("prompt", "change"), ("seed", "change")} <= triggers
    assert not values.get("analytics_enabled")
