from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from serve.moving_mean import MovingMean

Read = Callable[..., float]


@pytest.fixture
def read(http: httpx.Client) -> Read:
    """Read one sample of /metrics, 0 where it is absent."""

    def sample(name: str, **labels: str) -> float:
        families = text_string_to_metric_families(http.get("/metrics").text)
        found = [
            one.value
            for family in families
            for one in family.samples
            if one.name == name and labels.items() <= one.labels.items()
        ]
        return sum(found)

    return sample


def test_pictures_batches_and_times_are_counted(http: httpx.Client, read: Read) -> None:
    before = read("sidestep_pictures_total")
    http.post("/generate", json={"prompt": "a", "count": 8, "format": "webp"})
    assert read("sidestep_pictures_total", format="webp") == 8
    assert read("sidestep_pictures_total") == before + 8
    for stage in ("queue", "engine", "encode", "total"):
        assert read(f"sidestep_{stage}_seconds_count") == before + 8
    assert read("sidestep_total_seconds_sum") == pytest.approx(
        sum(read(f"sidestep_{stage}_seconds_sum") for stage in ("queue", "engine", "encode"))
    )
    assert read("sidestep_batch_pictures_bucket", le="4.0") == 0
    assert read("sidestep_batch_pictures_bucket", le="8.0") == 1
    assert read("sidestep_batch_pictures_sum") == 8
    assert read("sidestep_queued_pictures") == 0
    assert read("sidestep_ready") == 1
    assert read("sidestep_info", engine="fake", model="fake") == 1


def test_refusals_are_counted_by_reason(http: httpx.Client, app: FastAPI, read: Read) -> None:
    times = app.state.models.of(None).batcher.device.times
    known, slow = times._means, MovingMean(1.0)
    slow.add(60.0)
    times._means = dict.fromkeys(known, slow)
    assert http.post("/generate", json={"prompt": "a", "deadline_ms": 9}).status_code == 429
    times._means = known
    assert read("sidestep_refused_total", reason="deadline") == 1
    assert read("sidestep_refused_total") == 1


def test_what_the_routes_refuse_is_counted_once(http: httpx.Client, read: Read) -> None:
    openai = "/v1/images/generations"
    json = {"content-type": "application/json"}
    asked: list[tuple[str, str, dict[str, Any], int]] = [
        ("POST", "/generate", {"json": {"prompt": ""}}, 422),
        ("POST", "/generate", {"content": b"{", "headers": json}, 400),
        ("POST", "/generate", {"content": b"{}"}, 415),
        ("POST", "/generate", {"json": {"prompt": "a"}, "headers": {"Accept": "text/plain"}}, 406),
        ("POST", "/generate", {"json": {"prompt": "a", "model": "nope"}}, 404),
        ("GET", "/generate", {}, 422),
        ("GET", "/generate", {"params": {"prompt": "a", "model": "nope"}}, 404),
        ("GET", "/generate", {"params": {"prompt": "a", "model": "nope", "seed": 7}}, 404),
        ("POST", openai, {"json": {"prompt": "a", "style": "vivid"}}, 400),
        ("POST", openai, {"json": {"prompt": " "}}, 400),
        ("POST", openai, {"json": {"prompt": "a", "model": "nope"}}, 404),
    ]
    before = read("sidestep_refused_total")
    for method, path, sent, status in asked:
        assert http.request(method, path, **sent).status_code == status
    assert read("sidestep_refused_total", reason="invalid", model="") == len(asked)
    assert read("sidestep_refused_total") == before + len(asked)


def test_labels_are_route_templates(http: httpx.Client, read: Read) -> None:
    def series() -> int:
        return http.get("/metrics").text.count("sidestep_http_requests_total{")

    for path in ("/nope/0", "/v1/models/0", "/ui/config", "/docs/static/0"):
        http.get(path)
    http.request("PROPFIND", "/nope")
    known, unknown = series(), read("sidestep_http_requests_total", route="other", method="GET")
    for i in range(1, 30):
        for path in (f"/nope/{i}", f"/v1/models/{i}", f"/ui/{i}", f"/docs/static/{i}"):
            http.get(path)
        http.request("PROPFIND", "/nope")
    assert series() <= known + 1  # /ui answers unknown files with a status of its own
    labels: dict[str, Any] = {"route": "/v1/models/{model}", "method": "GET", "status": "404"}
    assert read("sidestep_http_requests_total", **labels) == 30
    assert read("sidestep_http_requests_total", route="other", method="GET") == unknown + 29
    assert read("sidestep_http_requests_total", method="other") == 30
