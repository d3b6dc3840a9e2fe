"""A lean HTTP/1.1 client: it shares the cores with the service it measures, so it does little."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Self
from urllib.parse import urlsplit

from bench.http_faults import fault_of
from bench.load import Answer
from sidestep.errors import InvalidRequest
from sidestep.requests import read_server_timing

if sys.platform != "win32":
    import resource

TIMEOUT_S = 30.0
STALE_S = 1.0  # which no usual server is shorter of, before it closes a connection that is idle
END_OF_HEAD = b"\r\n\r\n"


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
    def authority(self) -> str:
        """Host and port, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass
class HttpCaller:
    """Posts bodies in turn, over connections that are kept open.

    bodies: JSON documents; request i sends body i modulo their number, or is a GET if it is empty
    stale_s: how long a kept connection was idle, at least, that the service may have closed while
        the request was on its way; that request is sent once more, and the answer tells so
    """

    target: Target
    bodies: Sequence[bytes]
    headers: dict[str, str] = field(default_factory=dict)
    timeout_s: float = TIMEOUT_S
    stale_s: float = STALE_S
    _idle: list[_Connection] = field(default_factory=list)
    _requests: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Write all requests beforehand."""
        self._requests = [self._request(body) for body in self.bodies]
        self._ssl = ssl.create_default_context() if self.target.secure else None

    async def ask(self, index: int = 0) -> Answer:
        """Send request `index` and read its whole answer; faults are told, never raised."""
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._ask(self._requests[index % len(self._requests)])
        except TimeoutError:
            return Answer(0, f"no answer in {self.timeout_s:g} s")
        except (OSError, EOFError, UnicodeError) as error:
            return Answer(0, fault_of(error))
        except ValueError:
            return Answer(0, "not HTTP")

    async def close(self) -> None:
        """Close all connections."""
        for connection in self._idle:
            await connection.close()
        self._idle.clear()

    def _request(self, body: bytes) -> bytes:
        headers = {
            "Host": self.target.authority,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **self.headers,
        }
        asked = f"{'POST' if body else 'GET'} {self.target.path} HTTP/1.1"
        lines = [asked, *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body

    async def _ask(self, request: bytes) -> Answer:
        """Send on a kept connection if there is one, else on a new one.

        A request that was sent is a fault of the service if no answer comes, unless its connection
        was idle for so long that the service could have been about to close it.
        """
        kept = self._take_kept()
        if kept is None:
            return await self._exchange(await self._open(), request)
        stale = kept.idle_s >= self.stale_s
        try:
            return await self._exchange(kept, request)
        except ConnectionError:
            if not stale:
                raise
        return replace(await self._exchange(await self._open(), request), repeated=True)

    def _take_kept(self) -> _Connection | None:
        """Take the connection that was used last, leaving out those that the service closed."""
        while self._idle:
            if (connection := self._idle.pop()).kept:
                return connection
        return None

    async def _open(self) -> _Connection:
        where, loop = self.target, asyncio.get_running_loop()
        _, opened = await loop.create_connection(_Connection, where.host, where.port, ssl=self._ssl)
        return opened

    async def _exchange(self, connection: _Connection, request: bytes) -> Answer:
        answer = await connection.ask(request)
        if connection.kept:
            self._idle.append(connection)
        return answer


class _Connection(asyncio.Protocol):
    """Carries a request at a time, with one future for each."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._head = ""
        self._answer: asyncio.Future[Answer] | None = None
        self._loop = asyncio.get_running_loop()
        self._lost = self._loop.create_future()
        self._idle_since = self._loop.time()

    @property
    def kept(self) -> bool:
        """Whether another request may follow."""
        return not self._transport.is_closing()

    @property
    def idle_s(self) -> float:
        """How long ago its last answer was whole."""
        return self._loop.time() - self._idle_since

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    async def ask(self, request: bytes) -> Answer:
        """Send a request and wait for its whole answer.

        Raises ConnectionError where nothing came back, EOFError for a part, ValueError for an
        answer that is not HTTP. The connection is closed then, and when this is cancelled.
        """
        self._answer = self._loop.create_future()
        self._transport.write(request)
        try:
            return await self._answer
        except BaseException:
            self._transport.close()
            raise
        finally:
            self._answer, self._head = None, ""
            self._data.clear()
            self._idle_since = self._loop.time()

    async def close(self) -> None:
        """Close it and wait until it is closed."""
        self._transport.close()
        await self._lost

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._answer is None or self._answer.done():
            return
        try:
            if not self._head:
                end = self._data.find(END_OF_HEAD)
                if end < 0:
                    return
                self._head = self._data[: end + len(END_OF_HEAD)].decode("latin-1").lower()
            if _is_whole(self._data, self._head):
                if "\r\nconnection: close\r\n" in self._head:
                    self._transport.close()
                self._answer.set_result(_answer(self._head))
        except ValueError as error:
            self._answer.set_exception(error)

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(EOFError() if self._data else ConnectionResetError())
        if not self._lost.done():
            self._lost.set_result(None)


def allow_connections() -> None:
    """Let this process open as many files, which connections are, as it may."""
    if sys.platform != "win32":
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(OSError, ValueError):  # macOS allows fewer than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _answer(head: str) -> Answer:
    retry = bool(_header(head, "retry-after"))
    return Answer(_status(head), "", read_server_timing(_header(head, "server-timing")), retry)


def _is_whole(data: bytearray, head: str) -> bool:
    """Whether the body is all there; ValueError for a length that is not told."""
    at = len(head)
    if length := _header(head, "content-length"):
        return len(data) >= at + int(length)
    if "chunked" in _header(head, "transfer-encoding"):
        while (end := data.find(b"\r\n", at)) >= 0:
            size = int(data[at:end].split(b";")[0], 16)
            at = end + 2 + size + 2
            if not size:
                return len(data) >= at
        return False
    if _status(head) != 204:
        raise ValueError("an answer of unknown length")
    return True


def _status(head: str) -> int:
    if not head.startswith("http/1."):
        raise ValueError("not HTTP")
    return int(head.split(" ", 2)[1])


def _header(head: str, name: str) -> str:
    _, found, rest = head.partition(f"\r\n{name}:")
    return rest.partition("\r\n")[0].strip() if found else ""
