"""What a caller may get wrong: one sentence, and nothing is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ("", "prompt", "missing"),
        ("prompt=", "prompt", "1 to 2,000"),
        ("prompt=a&seed=1.5", "seed", "whole number"),
        ("prompt=a&seed=-1", "seed", "0 to 2^64 - 1"),
        ("prompt=a&seed=" + "9" * 3000, "seed", "whole number"),
        ("prompt=a&seed=%C2%B2", "seed", "whole number"),
        ("prompt=a&seed=1&seed=2", "seed", "more than once"),
        ("prompt=a&supersede=maybe", "supersede", "true or false"),
        ("prompt=a&size=3", "size", "not a field"),
        ("prompt=a&count=17", "count", "1 to 16"),
    ],
)
def test_a_bad_query_is_one_sentence(
    http: httpx.Client, query: str, field: str, words: str
) -> None:
    answer = http.get(f"/generate?{query}")
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == field
    assert words in answer.json()["error"]["message"]


BAD_BODIES: list[tuple[Any, int, str | None, str]] = [
    ({"prompt": ""}, 422, "prompt", "1 to 2,000 characters"),
    ({"prompt": " \n"}, 422, "prompt", "not blank"),
    ({"prompt": "x" * 10_000}, 422, "prompt", "1 to 2,000 characters"),
    ({"prompt": 5}, 422, "prompt", "text"),
    ({}, 422, "prompt", "missing"),
    ({"prompt": "a", "seed": -1}, 422, "seed", "0 to 2^64 - 1"),
    ({"prompt": "a", "seed": 2**64}, 422, "seed", "0 to 2^64 - 1"),
    ({"prompt": "a", "seed": 1.5}, 422, "seed", "whole number"),
    ({"prompt": "a", "seed": True}, 422, "seed", "whole number"),
    ({"prompt": "a", "seed": 2**64 - 1, "count": 2}, 422, "seed", "seed + count"),
    ({"prompt": "a", "count": 0}, 422, "count", "1 to 16"),
    ({"prompt": "a", "count": 1000}, 422, "count", "1 to 16"),
    ({"prompt": "a", "format": "gif"}, 422, "format", "png, jpeg, webp"),
    ({"prompt": "a", "size": 3}, 422, "size", "not a field"),
    ({"prompt": "a", "x" * 5000: 3}, 422, "x" * 64 + "...", "not a field"),
    ({"prompt": "a", "deadline_ms": 0}, 422, "deadline_ms", "1 to 600,000"),
    ({"prompt": "a", "client_id": ""}, 422, "client_id", "1 to 128 characters"),
    ({"prompt": "a", "supersede": 1}, 422, "supersede", "true or false"),
    ({"prompt": "a", "supersede": True}, 422, "client_id", "missing"),
    (b'{"prompt": "\xff\xfe"}', 400, None, "UTF-8"),
    (b'{"prompt": "a", "prompt": "b"}', 400, "prompt", "more than once"),
    (b'{"prompt": "a"', 400, None, "JSON object"),
    (b"", 400, None, "JSON object"),
    (b"[1]", 400, None, "JSON object"),
    (b"[" * 50_000, 400, None, "nested"),
    (b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}", 400, None, "JSON object"),
    (b'{"prompt": "a", "seed": NaN}', 422, "seed", "whole number"),
    (b'{"prompt": "a", "seed": 1e999}', 422, "seed", "whole number"),
    (rb'{"prompt": "\ud800"}', 422, "prompt", "text"),
    (rb'{"prompt": "a", "\ud800": 1}', 422, None, "prompt, seed, count, format"),
    (b" " * 2_000_000, 413, None, "65,536 bytes"),
]


@pytest.mark.parametrize(
    ("body", "status", "field", "words"), BAD_BODIES, ids=lambda value: str(value)[:32]
)
def test_bad_bodies_are_one_sentence_and_draw_nothing(
    http: httpx.Client, desk: Any, body: Any, status: int, field: str | None, words: str
) -> None:
    drawn = len(desk.engine.batches)
    sent: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
    answer = http.post("/generate", headers=JSON, **sent)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "field"}
    assert error["field"] == field
    assert words in error["message"]
    assert "\n" not in error["message"]
    assert len(error["message"]) < 300
    assert len(desk.engine.batches) == drawn
    assert http.post("/generate", json={"prompt": "alive", "seed": 1}).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data", "", "application/json5"])
def test_another_content_type(http: httpx.Client, kind: str) -> None:
    answer = http.post("/generate", headers={"content-type": kind}, content=b'{"prompt": "a"}')
    assert answer.status_code == 415
    assert "application/json" in answer.json()["error"]["message"]


def test_a_body_without_length_is_read_up_to_the_limit(http: httpx.Client) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 2_000_000:
            sent += 10_000
            yield b" " * 10_000

    answer = http.post("/generate", headers=JSON, content=endless())
    assert answer.status_code == 413
    assert http.get("/readyz").status_code == 200


@pytest.mark.parametrize("value", ["0", "-1", "soon", "1e3", "600001", "9" * 5000])
def test_a_wrong_deadline_header_names_its_bounds(http: httpx.Client, value: str) -> None:
    answer = http.post("/generate", json={"prompt": "a"}, headers={"X-Deadline-Ms": value})
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "deadline_ms"
    assert "1 to 600,000" in answer.json()["error"]["message"]
