"""Connections on which no whole request arrives are closed, so that idlers cannot use all up."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from serve.errors import SlowClient, answer, translate


class PatientProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's protocol, for as long as the head of a request arrives within `receive_s`.

    From the connection's beginning or the last answer on; uvicorn's own keep-alive timer ends when
    the first byte comes. What a client still sends of a body that was refused does not count.
    """

    receive_s = 10.0
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
        """Wait no more once a request is under way."""
        super().data_received(data)
        if self.cycle is not self._answered:
            self._rest()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self._answered = self.cycle
        super().on_response_complete()
        if self.cycle is self._answered:
            self._wait()

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
            told = answer(translate(SlowClient("the request did not arrive in time")))
            head = "".join(
                f"{name.decode()}: {value.decode()}\r\n" for name, value in told.raw_headers
            )
            text = f"HTTP/1.1 408 Request Timeout\r\n{head}\r\n".encode() + bytes(told.body)
            self.transport.write(text)
        self.transport.close()
