"""A lean HTTP/1.1 client: it shares the cores with the service it measures, so it does little."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from bench.load import Answer
from sidestep.errors import InvalidRequest

TIMEOUT_S = 30.0
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Target:
    """Where requests go: `http://host[:port][/path]`; without a path to /generate."""

    host: str
    port: int
    path: str
    secure: bool = False

    @classmethod
    def parse(cls, url: str, *, path: str = "/generate") -> Self:
        """Read an address; raises InvalidRequest for one that is none."""
        try:
            parts = urlsplit(url if "//" in url else f"http://{url}")
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidRequest(
                f"{url!r} is not an address; give one such as http://127.0.0.1:3000", field="url"
            )
        secure = parts.scheme == "https"
        asked = parts.path if parts.path not in ("", "/") else path
        query = f"?{parts.query}" if parts.query else ""
        return cls(parts.hostname, port or (443 if secure else 80), asked + query, secure)

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"http{'s' if self.secure else ''}://{self.host}:{self.port}"


@dataclass
class HttpCaller:
    """Posts bodies in turn, over connections that are kept open.

    bodies: JSON documents; request i sends body i modulo their number
    """

    target: Target
    bodies: Sequence[bytes]
    headers: dict[str, str] = field(default_factory=dict)
    timeout_s: float = TIMEOUT_S
    _idle: list[Connection] = field(default_factory=list)
    _requests: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Write all requests beforehand."""
        self._requests = [self._request(body) for body in self.bodies]
        self._ssl = ssl.create_default_context() if self.target.secure else None

    async def ask(self, index: int) -> Answer:
        """Send request `index` and read its whole answer; faults are told, never raised."""
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._ask(self._requests[index % len(self._requests)])
        except TimeoutError:
            return Answer(0, f"no answer in {self.timeout_s:g} s")
        except ConnectionRefusedError:
            return Answer(0, "refused")
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return Answer(0, "broken")
        except ValueError:
            return Answer(0, "not HTTP")

    async def close(self) -> None:
        """Close all connections."""
        for _, writer in self._idle:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        self._idle.clear()

    def _request(self, body: bytes) -> bytes:
        headers = {
            "Host": f"{self.target.host}:{self.target.port}",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **self.headers,
        }
        lines = [f"POST {self.target.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body

    async def _ask(self, request: bytes) -> Answer:
        """Send on a kept connection; on a new one if the service closed that meanwhile."""
        while self._idle:
            kept = self._idle.pop()
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                return await self._exchange(kept, request)
        where = self.target
        opened = await asyncio.open_connection(where.host, where.port, ssl=self._ssl)
        return await self._exchange(opened, request)

    async def _exchange(self, connection: Connection, request: bytes) -> Answer:
        reader, writer = connection
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            await _read_body(reader, head)
        except BaseException:
            writer.close()
            raise
        if "\r\nconnection: close\r\n" in head:
            writer.close()
        else:
            self._idle.append(connection)
        return Answer(_status(head), "", server_timing(_header(head, "server-timing")))


def server_timing(header: str) -> dict[str, float]:
    """Read `queue;dur=1.5, batch;desc="2"` as {"queue": 1.5, "batch": 2.0}."""
    found = re.findall(r'([\w-]+)\s*;\s*(?:dur|desc)="?([\d.]+)"?', header)
    return {name: float(value) for name, value in found}


async def _read_body(reader: asyncio.StreamReader, head: str) -> None:
    if length := _header(head, "content-length"):
        await reader.readexactly(int(length))
    elif "chunked" in _header(head, "transfer-encoding"):
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            await reader.readexactly(size + 2)
        await reader.readuntil(b"\r\n")
    elif _status(head) != 204:
        raise ValueError("an answer of unknown length")


def _status(head: str) -> int:
    if not head.startswith("http/1."):
        raise ValueError("not HTTP")
    return int(head.split(" ", 2)[1])


def _header(head: str, name: str) -> str:
    found = re.search(rf"\r\n{name}:\s*([^\r]*)", head)
    return found[1] if found else ""
