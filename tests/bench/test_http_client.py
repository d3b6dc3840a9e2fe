"""The benchmark's client against servers that keep, cut and refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from bench.http_client import HttpCaller, Target
from bench.load import closed_loop, open_loop
from sidestep.errors import InvalidRequest

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 429 Too Many\r\ncontent-length: 0\r\nRetry-After: 1\r\n\r\n"
Serve = Callable[..., Any]  # the fixture `raw_server`


async def good(index: int) -> bytes:
    return GOOD


async def test_every_request_is_answered_on_kept_connections(raw_server: Serve) -> None:
    async with raw_server(good) as server:
        caller = HttpCaller(server.target, [b"{}"])
        run = await closed_loop(caller.ask, callers=3, seconds=60, count=50)
        await caller.close()
    assert run.codes == {"200": 50}
    assert (server.asked, server.connections) == (50, 3)


async def test_latency_counts_from_when_a_request_was_due(raw_server: Serve) -> None:
    async with raw_server(good) as server:
        caller = HttpCaller(server.target, [b"{}"])
        run = await open_loop(caller.ask, [1e-4 * number for number in range(200)])
        await caller.close()
    assert len(run.good) == server.asked == 200
    assert all(run.latencies_ms > run.lateness_ms)
    assert all(run.lateness_ms >= 0)


async def test_an_empty_body_is_a_get() -> None:
    heads: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(GOOD)
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        caller = HttpCaller(Target("127.0.0.1", port, "/livez"), [b""])
        assert (await caller.ask()).good
        await caller.close()
    assert heads[0].startswith(b"GET /livez HTTP/1.1\r\n")


async def test_a_refusal_is_told_with_its_header(raw_server: Serve) -> None:
    async def busy(index: int) -> bytes:
        return BUSY if index else GOOD

    async with raw_server(busy) as server:
        caller = HttpCaller(server.target, [b"{}"])
        answers = [await caller.ask() for _ in range(2)]
        await caller.close()
    assert [(answer.status, answer.retry_after) for answer in answers] == [
        (200, False),
        (429, True),
    ]


async def test_a_kept_connection_that_was_closed_is_replaced() -> None:
    asked = 0

    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += bool(await reader.readuntil(b"\r\n\r\n"))
        writer.write(GOOD)
        writer.close()

    async with await asyncio.start_server(closes, "127.0.0.1", 0) as listening:
        target = Target("127.0.0.1", listening.sockets[0].getsockname()[1], "/")
        caller = HttpCaller(target, [b""])
        for _ in range(3):
            answer = await caller.ask()
            assert (answer.code, answer.repeated) == ("200", False)
            await asyncio.sleep(0.05)  # in which the client sees the end
        await caller.close()
    assert asked == 3


@pytest.mark.parametrize(
    ("stale_s", "told"),
    [
        (60, [("200", False), ("broken", False), ("200", False)]),
        (0, [("200", False), ("200", True), ("200", False)]),
    ],
)
async def test_a_request_that_was_dropped_is_repeated_on_a_stale_connection_alone(
    raw_server: Serve, stale_s: float, told: list[tuple[str, bool]]
) -> None:
    async def drops(index: int) -> bytes | None:
        return None if index == 1 else GOOD

    async with raw_server(drops) as server:
        caller = HttpCaller(server.target, [b"{}"], stale_s=stale_s)
        answers = [await caller.ask() for _ in told]
        await caller.close()
    assert [(answer.code, answer.repeated) for answer in answers] == told
    assert server.connections == 2
    assert server.asked == 3 + told[1][1]


async def test_a_request_is_repeated_once(raw_server: Serve) -> None:
    async def drops(index: int) -> bytes | None:
        return GOOD if index < 3 else None

    async with raw_server(drops) as server:
        caller = HttpCaller(server.target, [b"{}"], stale_s=0)
        await asyncio.gather(*(caller.ask(i) for i in range(3)))  # and three are kept
        assert (await caller.ask()).code == "broken"
        assert server.asked == 5
        await caller.close()


async def test_half_an_answer_is_no_answer() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(GOOD[:-1])
        writer.close()

    async with await asyncio.start_server(cut, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        assert (await HttpCaller(Target("127.0.0.1", port, "/"), [b"{}"]).ask()).code == "broken"


async def test_nobody_listens() -> None:
    assert (await HttpCaller(Target("127.0.0.1", 9, "/"), [b""]).ask()).code == "refused"


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
async def test_answers_of_every_kind(raw_server: Serve, data: bytes | None, code: str) -> None:
    async def answer(index: int) -> bytes | None:
        return data

    async with raw_server(answer) as server:
        caller = HttpCaller(server.target, [b"{}"])
        assert [(await caller.ask(i)).code for i in range(3)] == [code] * 3
        await caller.close()


async def test_no_answer_in_time(raw_server: Serve) -> None:
    async def never(index: int) -> bytes:
        await asyncio.Event().wait()
        return GOOD

    async with raw_server(never) as server:
        caller = HttpCaller(server.target, [b"{}"], timeout_s=0.05)
        assert (await caller.ask(0)).code == "no answer in 0.05 s"
        await caller.close()


def test_addresses() -> None:
    assert Target.parse("localhost:3000") == Target("localhost", 3000, "/generate")
    assert Target.parse("localhost:3000").authority == "localhost:3000"
    assert Target.parse("http://[::1]:3000").authority == "[::1]:3000"
    assert Target.parse("https://a.b/v1/x?y=1") == Target("a.b", 443, "/v1/x?y=1", True)
    for wrong in ("ftp://a", "http://", "http://a:b"):
        with pytest.raises(InvalidRequest, match="is not an address"):
            Target.parse(wrong)
