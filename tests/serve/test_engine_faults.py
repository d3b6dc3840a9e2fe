"""An engine or an encoder that fails, as callers see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

WaitUntil = Callable[[Callable[[], bool]], None]


def test_a_broken_engine_is_unavailable_until_it_is_opened_anew(
    http: httpx.Client, desk: Any, caplog: pytest.LogCaptureFixture, wait_until: WaitUntil
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
