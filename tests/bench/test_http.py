"""The HTTP benchmark over real sockets: our service, and services that misbehave."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fastapi import FastAPI

from bench.http import Plan, bodies, measure
from bench.http_client import Target
from bench.markdown import report_text
from bench.sweep import Promise
from serve.app import create_app
from serve.keys import add_key
from serve.settings import Settings
from sidestep.cli.bench_http import command
from sidestep.engines.fake import FakeEngine
from sidestep.generator import Generator

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Serve = Callable[..., Any]  # the fixture `raw_server`


async def good(index: int) -> bytes:
    return GOOD


QUICK: dict[str, Any] = {"seconds": 0.5, "warm_s": 0.2, "promise": Promise(10_000, 50)}


async def test_our_own_service_tells_where_the_time_went(
    make_generator: Callable[[FakeEngine], Generator], listen: Callable[[FastAPI], str]
) -> None:
    app = create_app(make_generator(FakeEngine(tokens=12)), Settings())
    plan = Plan(rate=40, callers=3, prompts=("red apple", "octopus"), **QUICK)
    report = await measure(Target.parse(listen(app)), plan)
    assert report.failed is None
    closed, opened = report.rows
    assert (closed["loop"], opened["loop"]) == ("closed", "open")
    assert opened["codes"] == {"200": opened["requests"]}
    assert opened["requests"] == 20
    assert set(opened["split_ms"]) == {"queue", "engine", "encode", "network"}
    assert sum(opened["batches"].values()) == opened["requests"]
    assert opened["slo_kept"]
    assert "p99 needs 368 samples" in opened["latency_ms"]["too_few_for"]
    assert opened["lateness_p99_ms"] is None
    engine_ms = opened["split_ms"]["engine"]
    assert engine_ms["p50"] > 0
    assert engine_ms["p99"] is None
    assert "open, 40/s" in report_text(report)


def test_a_key_opens_the_service_and_stays_out_of_the_report(
    make_generator: Callable[[FakeEngine], Generator],
    listen: Callable[[FastAPI], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret = add_key(tmp_path / "keys.json", "anna")
    settings = Settings(keys=str(tmp_path / "keys.json"))
    url = listen(create_app(make_generator(FakeEngine(tokens=12)), settings))
    promise = ["--slo-ms", "10000", "--slo-percent", "50"]
    arguments = [url, "--rate", "40", "--seconds", "0.5", *promise]
    refused = CliRunner().invoke(command, arguments)
    assert "401" in refused.output
    arguments += ["--key", secret, "--out", str(tmp_path / "a.json")]
    monkeypatch.setattr("sys.argv", ["sidestep", "bench", "http", *arguments])
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    written = (tmp_path / "a.json").read_text()
    assert json.loads(written)["rows"][0]["codes"] == {"200": 20}
    assert "--key KEY --out" in written
    assert secret not in written + done.output


async def test_a_sweep_of_a_service_that_refuses_most_keeps_no_rate(raw_server: Serve) -> None:
    async def refuses(index: int) -> bytes:
        return GOOD if index % 3 == 0 else GOOD.replace(b"200 OK", b"429 Too Many")

    async with raw_server(refuses) as server:
        report = await measure(server.target, Plan(**QUICK))
    assert report.failed is None  # a refusal is an answer
    assert report.figures["largest_rate_kept"] == 0
    assert report.figures["smallest_rate_missed"] > 0
    assert all("429" in row["codes"] and not row["slo_kept"] for row in report.rows)
    guess, *trials = report.rows
    assert (guess["purpose"], guess["callers"]) == ("first guess", 8)
    assert "| closed, 8 callers (first guess) |" in report_text(report)
    assert all(row["loop"] == "open" and row["purpose"] is None for row in trials)


async def test_a_service_that_begins_to_refuse_is_not_flooded(raw_server: Serve) -> None:
    async def refuses(index: int) -> bytes:
        return GOOD if index == 0 else GOOD.replace(b"200 OK", b"429 Too Many")

    async with raw_server(refuses) as server:
        report = await measure(server.target, Plan(**QUICK))
    assert report.failed == "nothing was answered with a picture"
    (row,) = report.rows
    assert row["purpose"] == "first guess"
    assert row["codes"] == {"429": row["requests"]}
    assert row["requests"] <= 8 * 6  # of 8 callers in half a second, with pauses of a tenth


async def test_a_service_that_is_down_is_told(raw_server: Serve) -> None:
    async with raw_server(good) as server:
        pass
    report = await measure(server.target, Plan(**QUICK))
    assert report.failed is not None
    where = server.target.authority
    assert f"{where} cannot be reached: refused; start the service" in report.failed
    (row,) = report.rows
    assert row["latency_ms"]["n"] == 0
    assert row["purpose"] == "warm-up"
    assert "| closed, 2 callers (warm-up) |" in report_text(report)
    assert report.figures["largest_rate_kept"] is None  # none was tried
    assert "is kept up to" not in report_text(report)


async def test_a_late_generator_is_told_where_the_promise_was_missed(raw_server: Serve) -> None:
    async def blocks(index: int) -> bytes:
        time.sleep(0.03)  # the loop that this server and its callers share
        return GOOD

    async with raw_server(blocks) as server:
        plan = Plan(rate=100, seconds=0.3, warm_s=0.1, promise=Promise(20, 50))
        report = await measure(server.target, plan)
    (row,) = report.rows
    assert row["slo_kept"] is False
    assert report.figures["generator_late"]


async def test_the_prompt_of_a_whole_body_is_what_was_asked(raw_server: Serve) -> None:
    async with raw_server(good) as server:
        plan = Plan(rate=40, body={"prompt": "a dog"}, **QUICK)
        report = await measure(server.target, plan)
    assert report.prompts == ["a dog"]


async def test_a_service_that_dies_in_mid_run_leaves_what_was_measured(raw_server: Serve) -> None:
    async def dies(index: int) -> bytes | None:
        return GOOD if index < 5000 else None

    async with raw_server(dies) as server:
        plan = Plan(callers=4, seconds=600, warm_s=0.2, promise=Promise(10_000, 50))
        report = await measure(server.target, plan)
    assert report.failed is not None
    assert f"{server.target.authority} died: broken; " in report.failed
    (row,) = report.rows
    assert row["codes"]["200"] > 100
    assert row["latency_ms"]["p99"] is not None


@pytest.mark.parametrize("status", [500, 422])
async def test_errors_in_mid_run_are_a_failure_and_counted(raw_server: Serve, status: int) -> None:
    async def some(index: int) -> bytes:
        wrong = GOOD.replace(b"200 OK", f"{status} Oh".encode())
        return wrong if index >= 200 and index % 3 == 0 else GOOD

    async with raw_server(some) as server:
        report = await measure(server.target, Plan(callers=2, **QUICK))
    assert report.failed is not None
    assert f"times {status}" in report.failed
    assert sum(row["codes"].get(str(status), 0) for row in report.rows) > 0


def test_bodies_take_turns_and_a_whole_body_stays() -> None:
    told = [json.loads(body) for body in bodies(Plan(prompts=("a", "b"), body={"count": 2}))]
    assert told == [
        {"count": 2, "prompt": "a", "seed": 0},
        {"count": 2, "prompt": "b", "seed": 1},
    ]
    whole = {"prompt": "x", "size": "auto"}
    assert [json.loads(body) for body in bodies(Plan(body=whole))] == [whole]
