"""Connections on which no whole request arrives are closed, so that idlers cannot use all up.

httptools, which parses heads, sets no bound to their time or length.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve.errors import HeadersTooLarge, MalformedRequest, SlowClient, answer, translate
from sidestep.errors import SidestepError

HEAD_LIMIT = 64 * 1024  # bytes; what a request may have is less, and is told by the guards


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol, for as long as the head of a request arrives within `receive_s`.

    From the connection's beginning or the last answer on; uvicorn's own keep-alive timer ends when
    the first byte comes. What a client still sends of a body that was refused does not count. A
    head of more than HEAD_LIMIT is not waited for.
    """

    cycle: Any  # None before the first request
    receive_s = 10.0
    _head_bytes: int | None = None  # of a head under way
    _timer: asyncio.TimerHandle | None = None
    _answered: Any = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, error: Exception | None) -> None:
        """Wait no more."""
        self._rest()
        super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        """Wait no more once a request is under way, nor for a head that never ends."""
        super().data_received(data)
        if self.cycle is not self._answered:
            self._rest()
        if self._head_bytes is None:
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_LIMIT and not self.transport.is_closing():
            self._refuse(HeadersTooLarge(f"the headers must be at most {HEAD_LIMIT:,} bytes"))

    def on_message_begin(self) -> None:
        """Begin to count the bytes of a head."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Count no more: what follows is a body."""
        self._head_bytes = None
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self._answered = self.cycle
        super().on_response_complete()
        if self.cycle is self._answered:
            self._wait()

    def send_400_response(self, message: str) -> None:
        """Refuse what is not HTTP as everything else is refused."""
        self._refuse(MalformedRequest("the request is not HTTP, or its method is unknown"))

    def _wait(self) -> None:
        self._rest()
        self._timer = self.loop.call_later(self.receive_s, self._late)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        """Answer 408 where a request has begun to arrive and none is answered, and close."""
        if self.transport.get_protocol() is not self:  # it speaks WebSocket now
            return
        if self.cycle is None and not self.transport.is_closing():
            self._refuse(SlowClient("the request did not arrive in time"))
        self.transport.close()

    def _refuse(self, error: SidestepError) -> None:
        """Answer before there is a request, and close."""
        told = answer(translate(error))
        told.headers["Connection"] = "close"
        status = HTTPStatus(told.status_code)
        lines = [f"HTTP/1.1 {status} {status.phrase}"]
        lines += [f"{name.decode()}: {value.decode()}" for name, value in told.raw_headers]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + bytes(told.body))
        self.transport.close()
