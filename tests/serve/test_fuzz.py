"""Whatever is sent, nothing fails (5xx), nothing hangs, and every answer is as documented."""

from __future__ import annotations

import contextlib
import json
import random
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serve.app import create_app
from serve.settings import Settings
from sidestep.engines.fake import FakeEngine
from sidestep.generator import Generator

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
PATHS = [
    *("/generate", "/v1/images/generations", "/models/reload", "/v1/models", "/v1/models/a"),
    *("/livez", "/readyz", "/metrics", "/ui/", "/nope", "/docs/static/..%2f..", "//", "/%ff"),
]
METHODS = ["POST", "POST", "POST", "GET", "HEAD", "PUT", "OPTIONS", "BREW"]
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def url(make_generator: Callable[[FakeEngine], Generator], listen: Callable[[FastAPI], str]) -> str:
    app = create_app(make_generator(FakeEngine(tokens=12)), Settings(receive_s=5))
    address = listen(app)
    # Hypothesis sets the recursion limit, which must not change while Gradio is imported.
    assert httpx.get(f"{address}/ui/", timeout=300).status_code == 200
    return address


@pytest.fixture(scope="module")
def session(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=TIMEOUT_S) as client:
        yield client
        assert client.get("/readyz").status_code == 200, "it has survived"


def conform(url: str, examples: int) -> int:
    """Send what schemathesis makes of /openapi.json, valid and not; returns how many requests."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    sent = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in schemathesis.GenerationMode:

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            )
            def check(case: Case) -> None:
                nonlocal sent
                sent += 1
                answer = case.call(timeout=TIMEOUT_S)
                case.validate_response(answer, checks=CHECKS)

            # An operation without parameters cannot be called wrongly.
            with contextlib.suppress(Unsatisfiable):
                check()
    return sent


def test_answers_are_as_documented(url: str) -> None:
    assert conform(url, 10) > 50


@pytest.mark.slow
def test_thousands_of_answers_are_as_documented(url: str) -> None:
    assert conform(url, 200) > 1_000


def strange(source: random.Random) -> Any:
    """Make a value that no field wants, or perhaps does."""
    makers: list[Callable[[], Any]] = [
        lambda: None,
        lambda: source.choice([True, False]),
        lambda: source.choice([0, -1, 1, 7, 2**63, 2**64 - 1, 2**64, 10**400, -(10**40)]),
        lambda: source.choice([0.5, -0.0, 1e308, float("nan"), float("inf")]),
        lambda: source.choice(
            ["", " ", "a", "png", "auto", "\x00", "\ud800", "\u202e", "🍎" * 700]
        ),
        lambda: "".join(chr(source.randrange(0x20, 0x2FF)) for _ in range(source.randrange(40))),
        lambda: [strange(source) for _ in range(source.randrange(3))],
        lambda: {str(strange(source))[:9]: strange(source) for _ in range(source.randrange(3))},
    ]
    return source.choice(makers)()


FIELDS = [
    *("prompt", "seed", "count", "format", "model", "quality", "deadline_ms", "client_id"),
    *("supersede", "n", "size", "response_format", "output_format", "output_compression"),
    *("stream", "user", "style", "partial_images", "", "__proto__"),
]


def body(source: random.Random) -> bytes:
    """Write an object of strange fields, and perhaps spoil its bytes."""
    pairs = [("prompt", "red apple")] if source.random() < 0.7 else []
    pairs += [(source.choice(FIELDS), strange(source)) for _ in range(source.randrange(4))]
    text = ", ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in pairs)
    data = f"{{{text}}}".encode("utf-8", "surrogatepass")
    spoil: list[Callable[[], bytes]] = [
        *[lambda: data] * 6,
        lambda: data[: source.randrange(len(data) + 1)],
        lambda: bytes(source.randrange(256) for _ in range(source.randrange(80))),
        lambda: data[:5] + bytes([source.randrange(128, 256)]) + data[5:],
        lambda: b"[" * source.randrange(60_000),
        lambda: b" " * source.randrange(150_000) + data,
        lambda: b"\xef\xbb\xbf" + data,
        lambda: data.decode("utf-8", "replace").encode("utf-16"),
    ]
    return source.choice(spoil)()


def headers(source: random.Random) -> dict[str, bytes]:
    made = {"content-type": b"application/json"}
    possible = {
        "content-type": [b"text/plain", b"", b"application/json; charset=latin-1", b"\xff"],
        "accept": [b"image/webp", b"*/*;q=0", b"image/*;q=nan", b",;=", b"multipart/mixed"],
        "x-deadline-ms": [b"100", b"-1", b"9" * 400, b"\xb2", b""],
        "x-client-id": [b"", b"\xe9", b"c" * 200, b"tab"],
        "if-none-match": [b"*", b"W/", b'"' * 50],
        "authorization": [b"Bearer x", b"Basic /w==", b"\xff"],
        "x-padding": [b"p" * 20_000],
        "origin": [b"null", b"https://a.example"],
    }
    for name in source.sample(list(possible), source.randrange(3)):
        made[name] = source.choice(possible[name])
    return made


def query(source: random.Random) -> bytes:
    parts = [
        f"{source.choice(FIELDS)}={source.choice(['1', '', '%ff', '%00', 'a', '9' * 50, '%F0%9F'])}"
        for _ in range(source.randrange(4))
    ]
    return ("?" + "&".join(parts) if parts else "").encode()


def bombard(session: httpx.Client, count: int) -> None:
    """Send `count` requests that no client would."""
    source = random.Random(7)
    for number in range(count):
        target = source.choice(PATHS).encode() + query(source)
        method = source.choice(METHODS)
        request = session.build_request(
            method,
            httpx.URL(str(session.base_url)).copy_with(raw_path=target),
            content=body(source) if method in ("POST", "PUT") else None,
            headers=headers(source),
        )
        answer = session.send(request)
        assert answer.status_code < 500, (number, request, request.content[:200], answer.text)
        if answer.status_code >= 400 and not target.startswith((b"/ui", b"/docs")):
            told = answer.json()["error"] if method != "HEAD" else {"message": "a"}
            assert "\n" not in told["message"], (number, request, answer.text)


def test_strange_requests(session: httpx.Client) -> None:
    bombard(session, 300)


@pytest.mark.slow
def test_thousands_of_strange_requests(session: httpx.Client) -> None:
    bombard(session, 5_000)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET /generate?prompt=\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_http_ends_the_connection(url: str, sent: bytes) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(1000)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert not answer or b'"error": {"code": "' in answer
    assert httpx.get(f"{url}/readyz", timeout=TIMEOUT_S).status_code == 200
