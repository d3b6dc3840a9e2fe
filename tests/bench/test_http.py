"""The HTTP benchmark over real sockets: our service, and services that misbehave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from bench.http import Plan, bodies, measure
from bench.http_client import HttpCaller, Target, server_timing
from bench.markdown import report_text
from bench.sweep import Promise
from serve.app import create_app
from serve.settings import Settings
from sidestep.engines.fake import FakeEngine
from sidestep.errors import InvalidRequest
from sidestep.generator import Generator

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
QUICK: dict[str, Any] = {"seconds": 0.5, "warm_s": 0.2, "promise": Promise(10_000, 50)}


@asynccontextmanager
async def raw_server(answer: Callable[[int], Awaitable[bytes | None]]) -> AsyncIterator[Target]:
    """Answer request i of all connections with these bytes; None closes the connection."""
    asked = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                asked += 1
                data = await answer(asked - 1)
                if data is None:
                    break
                writer.write(data)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield Target("127.0.0.1", server.sockets[0].getsockname()[1], "/draw")


async def good(index: int) -> bytes:
    return GOOD


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
    assert "open, 40/s" in report_text(report)


async def test_a_sweep_of_a_service_that_refuses_most_keeps_no_rate() -> None:
    async def refuses(index: int) -> bytes:
        return GOOD if index % 3 == 0 else GOOD.replace(b"200 OK", b"429 Too Many")

    async with raw_server(refuses) as target:
        report = await measure(target, Plan(**QUICK))
    assert report.failed is None  # a refusal is an answer
    assert report.figures["largest_rate_kept"] == 0
    assert report.figures["smallest_rate_missed"] > 0
    assert all("429" in row["codes"] and not row["slo_kept"] for row in report.rows)


async def test_a_service_that_is_down_is_told() -> None:
    async with raw_server(good) as target:
        pass
    report = await measure(target, Plan(**QUICK))
    assert report.failed is not None
    assert "the service died: refused" in report.failed
    (row,) = report.rows
    assert row["latency_ms"]["n"] == 0
    assert report_text(report)


async def test_a_service_that_dies_in_mid_run_leaves_what_was_measured() -> None:
    async def dies(index: int) -> bytes | None:
        return GOOD if index < 5000 else None

    async with raw_server(dies) as target:
        plan = Plan(callers=4, seconds=600, warm_s=0.2, promise=Promise(10_000, 50))
        report = await measure(target, plan)
    assert report.failed is not None
    assert "the service died: broken" in report.failed
    (row,) = report.rows
    assert row["codes"]["200"] > 100
    assert row["latency_ms"]["p99"] is not None


@pytest.mark.parametrize("status", [500, 422])
async def test_errors_in_mid_run_are_a_failure_and_counted(status: int) -> None:
    async def some(index: int) -> bytes:
        wrong = GOOD.replace(b"200 OK", f"{status} Oh".encode())
        return wrong if index >= 200 and index % 3 == 0 else GOOD

    async with raw_server(some) as target:
        report = await measure(target, Plan(callers=2, **QUICK))
    assert report.failed is not None
    assert f"times {status}" in report.failed
    assert sum(row["codes"].get(str(status), 0) for row in report.rows) > 0


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (GOOD, "200"),
        (b"HTTP/1.1 204 None\r\n\r\n", "204"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "200"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "200"),
        (b"SSH-2.0\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "not HTTP"),
        (None, "broken"),
    ],
)
async def test_answers_of_every_kind(data: bytes | None, code: str) -> None:
    async def answer(index: int) -> bytes | None:
        return data

    async with raw_server(answer) as target:
        caller = HttpCaller(target, [b"{}"])
        assert [(await caller.ask(i)).code for i in range(3)] == [code] * 3
        await caller.close()


async def test_no_answer_in_time() -> None:
    async def never(index: int) -> bytes:
        await asyncio.Event().wait()
        return GOOD

    async with raw_server(never) as target:
        caller = HttpCaller(target, [b"{}"], timeout_s=0.05)
        assert (await caller.ask(0)).code == "no answer in 0.05 s"
        await caller.close()


def test_addresses() -> None:
    assert Target.parse("localhost:3000") == Target("localhost", 3000, "/generate")
    assert Target.parse("https://a.b/v1/x?y=1") == Target("a.b", 443, "/v1/x?y=1", True)
    for wrong in ("ftp://a", "http://", "http://a:b"):
        with pytest.raises(InvalidRequest, match="is not an address"):
            Target.parse(wrong)


def test_bodies_take_turns_and_a_whole_body_stays() -> None:
    told = [json.loads(body) for body in bodies(Plan(prompts=("a", "b"), body={"count": 2}))]
    assert told == [
        {"count": 2, "prompt": "a", "seed": 0},
        {"count": 2, "prompt": "b", "seed": 1},
    ]
    whole = {"prompt": "x", "size": "auto"}
    assert [json.loads(body) for body in bodies(Plan(body=whole))] == [whole]


def test_server_timing() -> None:
    told = server_timing(
        'queue;dur=1.5, engine;dur=20, encode;dur=0.25, total;dur=21.75, batch;desc="2"'
    )
    assert told == {"queue": 1.5, "engine": 20, "encode": 0.25, "total": 21.75, "batch": 2}
