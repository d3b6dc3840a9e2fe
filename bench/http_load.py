"""Requests at a rate or from a number of callers, and what became of each.

A small HTTP/1.1 client on asyncio's streams: it shares the cores with the service it measures, so
it does no more than it must.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Outcome:
    """An answer: its status (0 where there was none) and the time since it was due."""

    status: int
    latency_ms: float
    retry_after: bool
    ended: float  # time.perf_counter


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
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def callers(self, count: int, seconds: float) -> list[Outcome]:
        """Let `count` callers ask, each anew as soon as it is answered."""
        end = time.perf_counter() + seconds

        async def caller() -> list[Outcome]:
            outcomes = []
            while (now := time.perf_counter()) < end:
                outcomes.append(await self.ask(now))
            return outcomes

        each = await asyncio.gather(*(caller() for _ in range(count)))
        return [outcome for outcomes in each for outcome in outcomes]

    async def poisson(self, per_second: float, count: int) -> list[Outcome]:
        """Send `count` requests at random times, whether or not earlier ones are answered.

        Latency counts from when a request was due, so that a late start is not forgiven.
        """
        rng = random.Random(0)
        due = time.perf_counter()
        tasks = []
        for _ in range(count):
            due += rng.expovariate(per_second)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.ensure_future(self.ask(due)))
        return await asyncio.gather(*tasks)

    async def ask(self, due: float) -> Outcome:
        """Send one request."""
        status, retry_after = 0, False
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status, retry_after = await self._ask()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        ended = time.perf_counter()
        return Outcome(status, 1e3 * (ended - due), retry_after, ended)

    async def _ask(self) -> tuple[int, bool]:
        """Send on a kept connection; on a new one if the service closed that meanwhile."""
        while self._idle:
            kept = self._idle.pop()
            with suppress(OSError, asyncio.IncompleteReadError):
                return await self._exchange(*kept)
        return await self._exchange(*await asyncio.open_connection(*self._where))

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[int, bool]:
        try:
            writer.write(self._request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
        except BaseException:
            writer.close()
            raise
        self._idle.append((reader, writer))
        return int(head.split(b" ", 2)[1]), b"\r\nretry-after:" in head

    async def close(self) -> None:
        """Close all connections."""
        for _, writer in self._idle:
            writer.close()
            await writer.wait_closed()


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that `percent` of all are not above; nan for none."""
    ordered = sorted(values)
    return (
        ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
        if ordered
        else float("nan")
    )
