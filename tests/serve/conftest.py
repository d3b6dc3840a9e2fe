"""The service's own tests: a fake engine with switches, and answers checked by the document."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from numpy.typing import NDArray

from serve.app import create_app
from serve.settings import Settings
from sidestep.engines.fake import FakeEngine
from sidestep.generator import Generator

KINDS = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}


class Desk:
    """The fake engine's switches: a gate that holds it, and a fault."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.fails = False
        self.engine = FakeEngine(tokens=12, before=self._before)

    def _before(self, ids: NDArray[np.int64]) -> None:
        assert self.open.wait(20)
        if self.fails:
            raise RuntimeError("a secret of the engine")


def _wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


@pytest.fixture(scope="session")
def wait_until() -> Callable[[Callable[[], bool]], None]:
    """Wait for a state, for so long that only a failure takes longer."""
    return _wait_until


@pytest.fixture(scope="module")
def desk() -> Desk:
    return Desk()


@pytest.fixture(scope="module")
def app(desk: Desk, make_generator: Callable[[FakeEngine], Generator]) -> FastAPI:
    return create_app(make_generator(desk.engine), Settings(queue_limit=16, deadline_ms=600_000))


@pytest.fixture(scope="module")
def url(app: FastAPI, listen: Callable[[FastAPI], str]) -> str:
    return listen(app)


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with documented_client(url) as client:
        yield client


@pytest.fixture
def serve_with(
    make_generator: Callable[[FakeEngine], Generator], listen: Callable[[FastAPI], str]
) -> Callable[..., str]:
    """Serve a fake engine with these settings, on an address of its own."""

    def make(**settings: Any) -> str:
        patient = Settings(**{"deadline_ms": 600_000, **settings})
        return listen(create_app(make_generator(FakeEngine(tokens=12)), patient))

    return make


def documented_client(url: str) -> httpx.Client:
    """A client that holds every answer of a documented route against /openapi.json."""
    document = httpx.get(f"{url}/openapi.json", timeout=30).json()

    def check(response: httpx.Response) -> None:
        request = response.request
        if response.status_code == 405 or (described := _operation(document, request)) is None:
            return
        response.read()
        assert str(response.status_code) in described["responses"], (request.url, response.text)
        content = described["responses"][str(response.status_code)].get("content", {})
        if response.content:
            media_type = response.headers["content-type"].split(";")[0]
            assert media_type in content, (request.url, media_type)
            if media_type == "application/json":
                conforms(json.loads(response.content), content[media_type]["schema"])

    return httpx.Client(base_url=url, timeout=30, event_hooks={"response": [check]})


def _operation(document: dict[str, Any], request: httpx.Request) -> dict[str, Any] | None:
    for path, operations in document["paths"].items():
        if path == request.url.path or path.split("{")[0] + "x" == request.url.path:
            found: dict[str, Any] | None = operations.get(request.method.lower())
            return found
    return None


def conforms(value: Any, schema: dict[str, Any]) -> None:
    """Check the parts of JSON schema that our answers use."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    assert any(isinstance(value, KINDS[kind]) for kind in kinds), (value, schema)
    assert value in schema.get("enum", [value])
    if isinstance(value, dict):
        assert set(schema.get("required", ())) <= set(value)
        assert set(value) <= set(schema["properties"])
        for name, one in value.items():
            conforms(one, schema["properties"][name])
    elif isinstance(value, list):
        for one in value:
            conforms(one, schema["items"])
