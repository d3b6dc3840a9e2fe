"""Requests at a rate or from a number of callers, and what became of each.

A small HTTP/1.1 client on asyncio's protocols: it shares the cores with the service it measures,
so it makes no task and no future for a request.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from bench.arrivals import poisson

TIMEOUT_S = 60.0
END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True)
class Outcome:
    """An answer: its status (0 where there was none) and the time since it was due.

    late_ms: from when the request was due until it was sent, a part of `latency_ms`
    ended: when its last byte came, as time.perf_counter tells time
    """

    status: int
    latency_ms: float
    retry_after: bool
    ended: float
    late_ms: float = 0.0


class Load:
    """Sends one request again and again over kept connections."""

    def __init__(
        self, host: str, port: int, body: dict[str, object] | None, **headers: str
    ) -> None:
        """Prepare `POST /generate` with this body, or `GET /livez` without one."""
        self._where = (host, port)
        content = json.dumps(body).encode() if body else b""
        lines = [
            "POST /generate HTTP/1.1" if body else "GET /livez HTTP/1.1",
            f"Host: {host}:{port}",
            "Content-Type: application/json",
            f"Content-Length: {len(content)}",
            *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
        ]
        self._request = "\r\n".join([*lines, "", ""]).encode() + content
        self._idle: list[_Connection] = []
        self._opening: set[asyncio.Task[None]] = set()

    async def callers(self, count: int, seconds: float, *, most: int = 10**9) -> list[Outcome]:
        """Let `count` callers ask, each anew as soon as it is answered, at most `most` times."""
        end = time.perf_counter() + seconds
        outcomes: list[Outcome] = []
        over = asyncio.Event()
        asked, asking = 0, 0

        def answered(outcome: Outcome) -> None:
            nonlocal asking
            outcomes.append(outcome)
            asking -= 1
            ask()

        def ask() -> None:
            nonlocal asked, asking
            if (now := time.perf_counter()) < end and asked < most:
                asked, asking = asked + 1, asking + 1
                self._send(now, answered)
            elif not asking:
                over.set()

        for _ in range(count):
            ask()
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), seconds + TIMEOUT_S)
        return outcomes + [_unanswered(end)] * asking

    async def poisson(self, per_second: float, count: int) -> list[Outcome]:
        """Send `count` requests at random times, whether or not earlier ones are answered.

        Latency counts from when a request was due, so that a late start is not forgiven.
        """
        outcomes: list[Outcome] = []
        over = asyncio.Event()

        def answered(outcome: Outcome) -> None:
            outcomes.append(outcome)
            if len(outcomes) == count:
                over.set()

        began = time.perf_counter()
        for after_s in poisson(per_second, count).tolist():
            if (wait_s := began + after_s - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            self._send(began + after_s, answered)
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), TIMEOUT_S)
        return outcomes + [_unanswered(began)] * (count - len(outcomes))

    async def ask(self) -> Outcome:
        """Send one request."""
        (outcome,) = await self.callers(1, TIMEOUT_S, most=1)
        return outcome

    def close(self) -> None:
        """Close all connections."""
        for connection in self._idle:
            connection.close()

    def _send(self, due: float, answered: Callable[[Outcome], None]) -> None:
        """Send on a kept connection or on a new one."""
        if self._idle:
            self._idle.pop().ask(self._request, due, answered)
        else:
            opening = asyncio.ensure_future(self._open(due, answered))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _open(self, due: float, answered: Callable[[Outcome], None]) -> None:
        try:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(
                lambda: _Connection(self._idle, self._send), *self._where
            )
        except OSError:
            answered(_unanswered(due))
        else:
            connection.ask(self._request, due, answered)


class _Connection(asyncio.Protocol):
    """A kept connection with one request at a time; it is in `idle` while it has none."""

    def __init__(
        self,
        idle: list[_Connection],
        send_again: Callable[[float, Callable[[Outcome], None]], None],
    ) -> None:
        self._idle, self._send_again = idle, send_again
        self._answered: Callable[[Outcome], None] | None = None
        self._used = False
        self._data = b""
        self._length = 0  # of head and body; 0 until the head is there

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, request: bytes, due: float, answered: Callable[[Outcome], None]) -> None:
        self._due, self._sent, self._answered = due, time.perf_counter(), answered
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._length:
            head, end, _ = self._data.partition(END_OF_HEAD)
            if not end:
                return
            head = head.lower()
            self._status, self._retry_after = int(head[9:12]), b"\r\nretry-after:" in head
            body = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            self._length = len(head) + len(end) + body
        if len(self._data) >= self._length:
            self._finish(self._status, self._retry_after)

    def connection_lost(self, error: Exception | None) -> None:
        if self in self._idle:
            self._idle.remove(self)
        if self._answered and self._used and not self._data:
            self._send_again(self._due, self._answered)  # it was closed when we sent
        elif self._answered:
            self._finish(0, False)

    def close(self) -> None:
        self._transport.close()

    def _finish(self, status: int, retry_after: bool) -> None:
        ended, answered = time.perf_counter(), self._answered
        assert answered is not None
        latency_ms, late_ms = 1e3 * (ended - self._due), 1e3 * (self._sent - self._due)
        self._answered, self._data, self._length, self._used = None, b"", 0, True
        if status:
            self._idle.append(self)
        answered(Outcome(status, latency_ms, retry_after, ended, late_ms))


def _unanswered(due: float) -> Outcome:
    now = time.perf_counter()
    return Outcome(0, 1e3 * (now - due), False, now)
