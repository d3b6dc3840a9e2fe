from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from bench.http_load import Load

Answer = Callable[[int], bytes]  # the number of a request -> what is sent for it
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 429 Too Many\r\ncontent-length: 0\r\nRetry-After: 1\r\n\r\n"


class Server:
    """Answers in turn; no bytes for a request close its connection."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.asked, self.connections = answer, 0, 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(int(head.split(b"Content-Length: ")[1].split()[0]))
                number, self.asked = self.asked, self.asked + 1
                data = self.answer(number)
                if not data:
                    break
                for start in range(0, len(data), 7):  # in pieces, as a network may
                    writer.write(data[start : start + 7])
                    await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def loaded(answer: Answer) -> AsyncIterator[tuple[Load, Server]]:
    server = Server(answer)
    async with await asyncio.start_server(server, "127.0.0.1", 0) as listening:
        load = Load("127.0.0.1", listening.sockets[0].getsockname()[1], {"prompt": "a"})
        yield load, server
        load.close()
        await asyncio.sleep(0.01)


async def test_every_request_is_answered_on_kept_connections() -> None:
    async with loaded(lambda number: GOOD) as (load, server):
        outcomes = await load.callers(3, 60, most=50)
    assert [outcome.status for outcome in outcomes] == [200] * 50
    assert server.asked == 50
    assert server.connections == 3


async def test_latency_counts_from_when_a_request_was_due() -> None:
    async with loaded(lambda number: GOOD) as (load, server):
        outcomes = await load.poisson(10_000, 200)
    assert len(outcomes) == server.asked == 200
    assert all(outcome.latency_ms > outcome.late_ms >= 0 for outcome in outcomes)


async def test_a_refusal_is_told_with_its_header() -> None:
    async with loaded(lambda number: BUSY if number else GOOD) as (load, _):
        outcomes = [await load.ask() for _ in range(2)]
    assert [(outcome.status, outcome.retry_after) for outcome in outcomes] == [
        (200, False),
        (429, True),
    ]


async def test_a_kept_connection_that_was_closed_is_replaced() -> None:
    async with loaded(lambda number: b"" if number == 1 else GOOD) as (load, server):
        outcomes = [await load.ask() for _ in range(3)]
    assert [outcome.status for outcome in outcomes] == [200] * 3
    assert (server.asked, server.connections) == (4, 2)


@pytest.mark.parametrize("cut", [b"", GOOD[:-1]])
async def test_an_answer_that_does_not_come_is_an_error(cut: bytes) -> None:
    async def cutting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(cut)
        writer.close()

    async with await asyncio.start_server(cutting, "127.0.0.1", 0) as listening:
        load = Load("127.0.0.1", listening.sockets[0].getsockname()[1], {"prompt": "a"})
        outcome = await load.ask()
    assert outcome.status == 0


async def test_nobody_listens() -> None:
    outcome = await Load("127.0.0.1", 9, None).ask()
    assert outcome.status == 0
