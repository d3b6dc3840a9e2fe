"""Pages of other origins, as a browser lets them call."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from fastapi import FastAPI

from serve.app import create_app
from serve.settings import Settings
from sidestep.engines.fake import FakeEngine
from sidestep.generator import Generator

Listen = Callable[[FastAPI], str]
MakeGenerator = Callable[[FakeEngine], Generator]
HOME, STRANGER = "https://home.example", "https://stranger.example"


@pytest.fixture(scope="module")
def url(make_generator: MakeGenerator, listen: Listen) -> str:
    settings = Settings(cors_origins=f"{HOME}/, https://other.example")
    return listen(create_app(make_generator(FakeEngine(tokens=12)), settings))


@pytest.mark.parametrize(("origin", "allowed"), [(HOME, True), (STRANGER, False)])
def test_a_preflight_and_its_request(url: str, origin: str, allowed: bool) -> None:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-deadline-ms",
    }
    preflight = httpx.options(f"{url}/generate", headers=asked, timeout=30)
    assert (preflight.status_code == 200) is allowed
    assert preflight.headers.get("access-control-allow-origin") == (origin if allowed else None)
    body = {"prompt": "a"}
    answer = httpx.post(f"{url}/generate", json=body, headers={"Origin": origin}, timeout=30)
    assert answer.status_code == 200
    assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)
    assert "X-Seed" in answer.headers["access-control-expose-headers"]


def test_a_refusal_is_readable_too(url: str) -> None:
    answer = httpx.post(f"{url}/generate", json={}, headers={"Origin": HOME}, timeout=30)
    assert answer.status_code == 422
    assert answer.headers["access-control-allow-origin"] == HOME


@pytest.mark.parametrize("headers", [{"Origin": HOME}, {"Sec-Fetch-Site": "cross-site"}])
def test_no_page_reloads_models_without_a_key(
    make_generator: MakeGenerator, listen: Listen, headers: dict[str, str]
) -> None:
    settings = Settings(cors_origins="*")
    url = listen(create_app(make_generator(FakeEngine(tokens=12)), settings))
    refused = httpx.post(f"{url}/models/reload", json={}, headers=headers, timeout=30)
    assert refused.status_code == 403
    assert httpx.post(f"{url}/models/reload", json={}, timeout=30).status_code == 200


def test_no_origin_is_allowed_by_default(make_generator: MakeGenerator, listen: Listen) -> None:
    url = listen(create_app(make_generator(FakeEngine(tokens=12)), Settings()))
    answer = httpx.get(f"{url}/livez", headers={"Origin": HOME}, timeout=30)
    assert "access-control-allow-origin" not in answer.headers
