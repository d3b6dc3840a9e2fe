"""The routes over real HTTP: a server on this machine with a fake engine."""

from __future__ import annotations

import base64
import email
import email.policy
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from fastapi import FastAPI

from serve.device import EngineTimes
from sidestep.images import read_recipe

JSON = {"content-type": "application/json"}
REST = ("model", "quality", "deadline_ms", "client_id", "supersede")


def test_one_picture_is_its_bytes(http: httpx.Client) -> None:
    body = {"prompt": "red apple", "seed": 7}
    first, second = http.post("/generate", json=body), http.post("/generate", json=body)
    assert first.status_code == 200
    assert first.headers["content-type"] == "image/png"
    assert first.headers["x-seed"] == "7"
    assert "x-prompt-dropped" not in first.headers
    assert first.content == second.content
    recipe = read_recipe(first.content)
    assert recipe is not None
    assert (recipe.prompt, recipe.seed) == ("red apple", 7)
    number = r"(\d+\.\d\d)"
    pattern = f"queue;dur={number}, engine;dur={number}, encode;dur={number}, total;dur={number}"
    found = re.fullmatch(f'{pattern}, batch;desc="1"', first.headers["server-timing"])
    assert found is not None
    *parts, total = map(float, found.groups())
    assert sum(parts) == pytest.approx(total, abs=0.03)
    assert first.elapsed.total_seconds() * 1e3 > total


@pytest.mark.parametrize(
    ("format", "start"), [("png", b"\x89PNG"), ("jpeg", b"\xff\xd8"), ("webp", b"RIFF")]
)
def test_formats(http: httpx.Client, format: str, start: bytes) -> None:
    answer = http.post("/generate", json={"prompt": "a", "format": format})
    assert answer.headers["content-type"] == f"image/{format}"
    assert answer.content.startswith(start)


def test_a_missing_seed_is_drawn_and_returned(http: httpx.Client) -> None:
    answer = http.post("/generate", json={"prompt": "red apple"})
    seed = int(answer.headers["x-seed"])
    assert 0 <= seed < 2**32
    again = http.post("/generate", json={"prompt": "red apple", "seed": seed})
    assert again.content == answer.content


def test_several_pictures_are_json_and_each_the_same_as_alone(http: httpx.Client) -> None:
    last = 2**64 - 1
    answer = http.post("/generate", json={"prompt": "octopus", "seed": last - 2, "count": 3})
    pictures = answer.json()["pictures"]
    assert [p["seed"] for p in pictures] == [last - 2, last - 1, last]
    assert [p["timings"]["batch_size"] for p in pictures] == [3, 3, 3]
    alone = http.post("/generate", json={"prompt": "octopus", "seed": last})
    assert base64.b64decode(pictures[2]["data"]) == alone.content


def test_a_cut_prompt_names_the_dropped_words(http: httpx.Client) -> None:
    prompt = "red apple " * 12 + "naïve 🍎"
    one = http.post("/generate", json={"prompt": prompt})
    assert unquote(one.headers["x-prompt-dropped"]).endswith("naïve 🍎")
    two = http.post("/generate", json={"prompt": prompt, "count": 2})
    assert two.json()["pictures"][1]["dropped"].endswith("naïve 🍎")
    long = http.post("/generate", json={"prompt": "🍎" * 2000})
    assert len(long.headers["x-prompt-dropped"]) < 4096


def test_a_quality_makes_the_file_smaller(http: httpx.Client) -> None:
    fine, coarse = (
        http.post(
            "/generate", json={"prompt": "a", "seed": 1, "format": "jpeg", "quality": quality}
        )
        for quality in (95, 10)
    )
    assert len(coarse.content) < len(fine.content)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_accept_chooses_the_format(http: httpx.Client, kind: str) -> None:
    body = {"prompt": "a", "seed": 7}
    answer = http.post("/generate", json=body, headers={"Accept": f"image/{kind}"})
    named = http.post("/generate", json={**body, "format": kind})
    assert answer.headers["content-type"] == f"image/{kind}"
    assert answer.content == named.content


def test_what_nobody_offers_is_not_acceptable(http: httpx.Client) -> None:
    answer = http.post("/generate", json={"prompt": "a"}, headers={"Accept": "image/gif"})
    assert answer.status_code == 406
    assert "image/png, image/jpeg, image/webp" in answer.json()["error"]["message"]


@pytest.mark.parametrize("count", [1, 3])
def test_several_pictures_as_multipart_are_the_json_s_bytes(http: httpx.Client, count: int) -> None:
    body = {"prompt": "octopus", "seed": 5, "count": count, "format": "jpeg"}
    answer = http.post("/generate", json=body, headers={"Accept": "multipart/mixed"})
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    parts = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP).get_payload()
    json = http.post("/generate", json=body, headers={"Accept": "application/json"})
    pictures = json.json()["pictures"]
    assert len(parts) == len(pictures) == count
    for part, picture in zip(parts, pictures, strict=True):
        assert isinstance(part, EmailMessage)
        assert part.get_content_type() == "image/jpeg"
        assert part.get_payload(decode=True) == base64.b64decode(picture["data"])
        assert part["X-Seed"] == str(picture["seed"])
        assert "total;dur=" in str(part["Server-Timing"])


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


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "not_found"),
        ("POST", "/", 405, "method_not_allowed"),
        ("PUT", "/generate", 405, "method_not_allowed"),
        ("DELETE", "/livez", 405, "method_not_allowed"),
    ],
)
def test_unknown_paths_and_methods_have_the_same_shape(
    http: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    answer = http.request(method, path, follow_redirects=True)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code


def test_a_broken_engine_is_unavailable_until_it_is_opened_anew(
    http: httpx.Client, desk: Any, caplog: pytest.LogCaptureFixture
) -> None:
    desk.fails = True
    answer = http.post("/generate", json={"prompt": "a"})
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["error"]["code"] == "unavailable"
    assert "a secret of the engine" in caplog.text
    assert "a secret of the engine" not in answer.text
    assert http.get("/readyz").status_code == 503
    assert http.get("/livez").status_code == 200
    assert http.post("/generate", json={"prompt": "a"}).status_code == 503
    desk.fails = False
    wait_until(lambda: http.get("/readyz").status_code == 200)
    assert http.post("/generate", json={"prompt": "a"}).status_code == 200


def test_what_fails_beside_the_engine_tells_the_client_nothing_more(
    http: httpx.Client,
    app: FastAPI,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise OSError("a secret of the encoder")

    with monkeypatch.context() as patch:
        patch.setattr(app.state.models.of(None).generator, "picture", broken)
        answer = http.post("/generate", json={"prompt": "a"})
    assert answer.status_code == 500
    assert answer.json()["error"] == {
        "code": "internal",
        "message": "unexpected error; see the log",
        "field": None,
    }
    assert "a secret of the encoder" in caplog.text
    assert http.post("/generate", json={"prompt": "a"}).status_code == 200


class Asked(threading.Thread):
    """A request under way."""

    def __init__(self, url: str, **values: Any) -> None:
        super().__init__()
        self.url, self.body = f"{url}/generate", {"prompt": "a", **values}
        self.start()

    def run(self) -> None:
        self.answered = httpx.post(self.url, json=self.body, timeout=30)

    def answer(self) -> httpx.Response:
        self.join()
        return self.answered


def hold(url: str, desk: Any) -> Asked:
    """Keep the engine busy until the desk opens again."""
    desk.open.clear()
    drawn = len(desk.engine.batches)
    asked = Asked(url)
    wait_until(lambda: len(desk.engine.batches) > drawn)
    return asked


def test_a_full_queue_says_when_to_come_back(
    http: httpx.Client, url: str, desk: Any, app: FastAPI
) -> None:
    asked = [hold(url, desk), Asked(url, count=16)]
    wait_until(lambda: app.state.models.of(None).batcher.queued == 16)
    refused = http.post("/generate", json={"prompt": "a"})
    desk.open.set()
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert int(refused.headers["x-predicted-wait-ms"]) >= 0
    assert refused.json()["error"]["code"] == "busy"
    assert [one.answer().status_code for one in asked] == [200, 200]


def test_a_deadline_that_cannot_be_met_is_refused_before_anything_is_queued(
    http: httpx.Client, url: str, desk: Any, app: FastAPI
) -> None:
    batcher = app.state.models.of(None).batcher
    asked = hold(url, desk)
    with batcher._wake:  # the engine's calls take a minute, as far as is known
        known, batcher.device.times = batcher.device.times, EngineTimes(desk.engine.spec)
        batcher.device.times.add(1, 60.0)
    refused = http.post("/generate", json={"prompt": "a"}, headers={"X-Deadline-Ms": "2500"})
    in_body = http.post("/generate", json={"prompt": "a", "deadline_ms": 2500})
    patient = Asked(url, deadline_ms=600_000)
    wait_until(lambda: batcher.queued == 1)
    batcher.device.times = known
    desk.open.set()
    assert refused.status_code == in_body.status_code == 429
    assert 100_000 < int(refused.headers["x-predicted-wait-ms"]) <= 121_000
    assert 97 < int(refused.headers["retry-after"]) <= 118
    assert "predicted wait of" in refused.json()["error"]["message"]
    assert asked.answer().status_code == patient.answer().status_code == 200


@pytest.mark.parametrize("value", ["0", "-1", "soon", "1e3", "600001", "9" * 5000])
def test_a_wrong_deadline_header_names_its_bounds(http: httpx.Client, value: str) -> None:
    answer = http.post("/generate", json={"prompt": "a"}, headers={"X-Deadline-Ms": value})
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "deadline_ms"
    assert "1 to 600,000" in answer.json()["error"]["message"]


def test_the_newest_of_a_client_s_requests_wins(
    http: httpx.Client, url: str, desk: Any, app: FastAPI
) -> None:
    drawn = len(desk.engine.batches)
    asked = hold(url, desk)
    older = Asked(url, prompt="red", client_id="tab", supersede=True)
    wait_until(lambda: app.state.models.of(None).batcher.queued == 1)
    other = Asked(url, prompt="red", client_id="other tab", supersede=True)
    wait_until(lambda: app.state.models.of(None).batcher.queued == 2)
    newer = Asked(url, prompt="red apple", client_id="tab", supersede=True)
    assert older.answer().status_code == 409
    assert older.answer().json()["error"]["code"] == "superseded"
    desk.open.set()
    assert [one.answer().status_code for one in (asked, other, newer)] == [200] * 3
    assert sum(desk.engine.batches[drawn:]) == 3  # of four that asked


def test_a_client_that_leaves_is_not_drawn(
    http: httpx.Client, url: str, desk: Any, app: FastAPI
) -> None:
    drawn = len(desk.engine.batches)
    first = hold(url, desk)
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as leaving:
        body = b'{"prompt": "b", "count": 4}'
        head = f"POST /generate HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        leaving.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: app.state.models.of(None).batcher.queued == 4)
    wait_until(lambda: app.state.models.of(None).batcher.queued == 0)
    desk.open.set()
    assert first.answer().status_code == 200
    assert http.post("/generate", json={"prompt": "c"}).status_code == 200
    assert desk.engine.batches[drawn:] == [1, 1]


def test_health_and_home(http: httpx.Client) -> None:
    assert http.get("/livez").status_code == 200
    assert http.get("/readyz").status_code == 200
    home = http.get("/")
    assert home.status_code == 307
    assert home.headers["location"] == "/ui/"


def test_the_document_is_true_and_asks_no_other_host(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    assert set(document["paths"]) == {
        *("/generate", "/models", "/livez", "/readyz", "/metrics"),
        *("/v1/images/generations", "/v1/models", "/v1/models/{model}"),
    }
    generate = document["paths"]["/generate"]["post"]
    schema = generate["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == {"prompt", "seed", "count", "format", *REST}
    assert schema["required"] == ["prompt"]
    query = document["paths"]["/generate"]["get"]["parameters"]
    assert {one["name"] for one in query if one["in"] == "query"} == set(schema["properties"])
    assert set(generate["responses"]) == {
        "200",
        "400",
        "404",
        "406",
        "409",
        "413",
        "415",
        "422",
        "429",
        "500",
        "503",
    }
    page = http.get("/docs")
    assert page.status_code == 200
    assert "http" not in re.sub(r"https?://127\.0\.0\.1:\d+", "", page.text)
    for path in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert http.get(f"/{path}").status_code == 200


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)
