"""Full queues, deadlines, newer requests and clients that leave, as callers see them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import httpx
from fastapi import FastAPI

from serve.device import EngineTimes

WaitUntil = Callable[[Callable[[], bool]], None]


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


def hold(url: str, desk: Any, wait_until: WaitUntil) -> Asked:
    """Keep the engine busy until the desk opens again."""
    desk.open.clear()
    drawn = len(desk.engine.batches)
    asked = Asked(url)
    wait_until(lambda: len(desk.engine.batches) > drawn)
    return asked


def test_a_full_queue_says_when_to_come_back(
    http: httpx.Client, url: str, desk: Any, app: FastAPI, wait_until: WaitUntil
) -> None:
    asked = [hold(url, desk, wait_until), Asked(url, count=16)]
    wait_until(lambda: app.state.models.of(None).batcher.queued == 16)
    refused = http.post("/generate", json={"prompt": "a"})
    desk.open.set()
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert int(refused.headers["x-predicted-wait-ms"]) >= 0
    assert refused.json()["error"]["code"] == "busy"
    assert [one.answer().status_code for one in asked] == [200, 200]


def test_a_deadline_that_cannot_be_met_is_refused_before_anything_is_queued(
    http: httpx.Client, url: str, desk: Any, app: FastAPI, wait_until: WaitUntil
) -> None:
    batcher = app.state.models.of(None).batcher
    asked = hold(url, desk, wait_until)
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


def test_the_newest_of_a_client_s_requests_wins(
    http: httpx.Client, url: str, desk: Any, app: FastAPI, wait_until: WaitUntil
) -> None:
    drawn = len(desk.engine.batches)
    asked = hold(url, desk, wait_until)
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
    http: httpx.Client, url: str, desk: Any, app: FastAPI, wait_until: WaitUntil
) -> None:
    drawn = len(desk.engine.batches)
    first = hold(url, desk, wait_until)
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
