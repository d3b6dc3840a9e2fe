"""Pictures with a seed have an address that caches."""

from __future__ import annotations

from typing import Any

import httpx
import pytest


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


@pytest.mark.parametrize("params", [{}, {"seed": "7", "count": "2"}])
def test_what_differs_each_time_is_never_cached(http: httpx.Client, params: dict[str, str]) -> None:
    answer = http.get("/generate", params={"prompt": "a", **params})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers
