"""Pictures with a seed have an address that caches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.caching import entity_tag
from serve.keys import add_key
from sidestep.generator import Generator
from sidestep.requests import Encoding, GenerateRequest


def test_a_picture_with_a_seed_has_an_address_that_caches(http: httpx.Client, desk: Any) -> None:
    address = {"prompt": "red apple", "seed": "7"}
    first = http.get("/generate", params=address)
    assert first.content == http.post("/generate", json={"prompt": "red apple", "seed": 7}).content
    assert first.headers["cache-control"] == "public, max-age=3600"
    assert first.headers["vary"] == "Accept"
    tag = first.headers["etag"]
    drawn = len(desk.engine.batches)
    for known in (tag, f'"other", W/{tag}', "*"):
        again = http.get("/generate", params=address, headers={"If-None-Match": known})
        assert again.status_code == 304
        assert again.content == b""
        assert again.headers["etag"] == tag
    assert len(desk.engine.batches) == drawn
    changed = http.get("/generate", params=address, headers={"If-None-Match": '"other"'})
    assert changed.content == first.content
    others = [
        http.get("/generate", params={**address, **change}).headers["etag"]
        for change in ({"seed": "8"}, {"prompt": "a"}, {"format": "webp"}, {"quality": "5"})
    ]
    assert len({tag, *others}) == 5


def test_bytes_that_tell_another_licence_have_another_tag() -> None:
    request, encoding = GenerateRequest(prompt="red apple", seed=7), Encoding()
    generator = Generator.load(engine="fake")
    tag = entity_tag(request, encoding, generator)
    assert generator.source
    card = replace(generator.source.card, licences={"weights": "CC0-1.0"})
    generator.source = replace(generator.source, card=card)
    assert entity_tag(request, encoding, generator) != tag


@pytest.mark.parametrize("params", [{}, {"seed": "7", "count": "2"}])
def test_what_differs_each_time_is_never_cached(http: httpx.Client, params: dict[str, str]) -> None:
    answer = http.get("/generate", params={"prompt": "a", **params})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers


def test_where_keys_are_in_use_no_cache_hands_pictures_to_others(
    serve_with: Callable[..., str], tmp_path: Path
) -> None:
    headers = {"X-API-Key": add_key(tmp_path / "keys.json", "anna")}
    url = serve_with(keys=str(tmp_path / "keys.json"))
    address = f"{url}/generate?prompt=a&seed=7"
    first = httpx.get(address, headers=headers, timeout=60)
    known = {**headers, "If-None-Match": first.headers["etag"]}
    again = httpx.get(address, headers=known, timeout=60)
    assert (first.status_code, again.status_code) == (200, 304)
    for answer in (first, again):
        assert answer.headers["cache-control"] == "private, max-age=3600"
