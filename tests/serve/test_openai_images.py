"""OpenAI's Images API as its clients speak it, over real HTTP."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serve.moving_mean import MovingMean
from serve.openai_images import ImagesRequest
from sidestep.images import decode, read_recipe

PATH = "/v1/images/generations"


def images(http: httpx.Client, **values: Any) -> httpx.Response:
    return http.post(PATH, json={"prompt": "red apple", **values})


def test_the_pictures_are_ours_as_base64(http: httpx.Client) -> None:
    answer = images(http, model="gpt-image-1", n=2, seed=7, size="32x32", user="me")
    assert answer.status_code == 200
    told = answer.json()
    assert [one["seed"] for one in told["data"]] == [7, 8]
    assert (told["size"], told["output_format"]) == ("32x32", "png")
    alone = http.post("/generate", json={"prompt": "red apple", "seed": 8})
    assert base64.b64decode(told["data"][1]["b64_json"]) == alone.content
    assert "total;dur=" in answer.headers["server-timing"]


def test_the_body_s_user_goes_before_the_header() -> None:
    headers = {"client_id": "header", "deadline_ms": 500}
    ours = ImagesRequest(prompt="a", user="body").ours(headers)
    assert (ours.client_id, ours.deadline_ms) == ("body", 500)
    assert ImagesRequest(prompt="a").ours(headers).client_id == "header"


def test_absent_and_null_fields_have_openai_s_defaults(http: httpx.Client) -> None:
    told = images(http, n=None, size=None, response_format=None, seed=None, stream=None).json()
    assert len(told["data"]) == 1
    data = base64.b64decode(told["data"][0]["b64_json"])
    recipe = read_recipe(data)
    assert recipe is not None
    assert recipe.seed == told["data"][0]["seed"]
    assert decode(data).shape == (32, 32, 3)


def test_output_format_and_compression(http: httpx.Client) -> None:
    sizes = []
    for compression in (90, 10):
        answer = images(http, seed=1, output_format="webp", output_compression=compression)
        data = base64.b64decode(answer.json()["data"][0]["b64_json"])
        assert data.startswith(b"RIFF")
        sizes.append(len(data))
    assert sizes[0] > sizes[1]


@pytest.mark.parametrize("n", [1, 2])
def test_a_stream_is_one_completed_event_for_each_picture(http: httpx.Client, n: int) -> None:
    answer = images(http, seed=7, stream=True, partial_images=0, n=n)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, end = answer.text.split("\n\n")
    assert end == ""
    assert len(events) == n
    for i, event in enumerate(events):
        name, data = event.split("\n")
        assert name == "event: image_generation.completed"
        told = json.loads(data.removeprefix("data: "))
        assert told["type"] == "image_generation.completed"
        assert told["seed"] == 7 + i
        assert base64.b64decode(told["b64_json"]).startswith(b"\x89PNG")


BAD: list[tuple[dict[str, Any], int, str, str]] = [
    ({"prompt": ""}, 400, "prompt", "1 to 2,000"),
    ({"prompt": "  "}, 400, "prompt", "not blank"),
    ({"prompt": None}, 400, "prompt", "1 to 2,000"),
    ({"n": 0}, 400, "n", "1 to 10"),
    ({"n": 11}, 400, "n", "1 to 10"),
    ({"n": "2"}, 400, "n", "whole number"),
    ({"size": "1024x1024"}, 400, "size", "auto or 32x32"),
    ({"size": "big"}, 400, "size", "auto or"),
    ({"response_format": "url"}, 400, "response_format", "b64_json"),
    ({"output_format": "gif"}, 400, "output_format", "png, jpeg or webp"),
    ({"output_compression": 50}, 400, "output_compression", "png"),
    ({"output_format": "jpeg", "output_compression": 101}, 400, "output_compression", "0 to 100"),
    ({"quality": "hd"}, 400, "quality", "one quality"),
    ({"background": "transparent"}, 400, "background", "no alpha"),
    ({"moderation": "low"}, 400, "moderation", "auto"),
    ({"partial_images": 2}, 400, "partial_images", "one step"),
    ({"stream": "yes"}, 400, "stream", "true or false"),
    ({"seed": 2**64}, 400, "seed", "0 to 2^64 - 1"),
    ({"seed": 2**64 - 1, "n": 2}, 400, "seed", "seed + count"),
    ({"style": "vivid"}, 400, "style", "not supported"),
    ({"x" * 5000: 1}, 400, "x" * 64 + "...", "not supported"),
    ({"model": "no-such-model"}, 404, "model", "gpt-image-1"),
]


@pytest.mark.parametrize(
    ("values", "status", "param", "words"), BAD, ids=lambda value: str(value)[:32]
)
def test_what_cannot_be_granted_is_refused_in_openai_s_shape(
    http: httpx.Client, values: dict[str, Any], status: int, param: str, words: str
) -> None:
    answer = images(http, **values)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert words in error["message"]
    assert len(error["message"]) < 300


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"prompt": "\xff"}', "application/json", 400),
        (b'{"prompt": "a", "prompt": "b"}', "application/json", 400),
        (rb'{"prompt": "\ud800"}', "application/json", 400),
        (rb'{"prompt": "a", "\ud800": 1}', "application/json", 400),
        (b'{"prompt": "a"}', "text/plain", 415),
        (b" " * 2_000_000, "application/json", 413),
    ],
)
def test_a_bad_body_too(http: httpx.Client, content: bytes, kind: str, status: int) -> None:
    answer = http.post(PATH, content=content, headers={"content-type": kind})
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_refusal_for_lack_of_time_is_a_rate_limit(http: httpx.Client, app: FastAPI) -> None:
    times = app.state.models.of(None).batcher.device.times
    known, slow = times._means, MovingMean(1.0)
    slow.add(60.0)
    times._means = dict.fromkeys(known, slow)
    headers = {"X-Deadline-Ms": "1000"}
    answer = http.post(PATH, json={"prompt": "a"}, headers=headers)
    times._means = known
    assert answer.status_code == 429
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert int(answer.headers["retry-after"]) >= 1


def test_models_are_listed_under_their_own_name(http: httpx.Client) -> None:
    told = http.get("/v1/models").json()
    assert [model["id"] for model in told["data"]] == ["fake"]
    assert "gpt-image-1" in told["data"][0]["aliases"]
    assert http.get("/v1/models/fake").json() == told["data"][0]
    assert http.get("/v1/models/dall-e-3").json() == told["data"][0]
    missing = http.get("/v1/models/x")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "model_not_found"
