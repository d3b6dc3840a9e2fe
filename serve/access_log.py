"""A line of JSON for each request, written beside the event loop.

Prompts are left out unless asked for, and so are query strings, which hold prompts too. What cannot
be written, on a full disk say, is counted and left out; the requests go on.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener, WatchedFileHandler
from queue import Full, Queue
from typing import Any

from prometheus_client import Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidestep.errors import InvalidRequest

logger = logging.getLogger("sidestep.serve")
MOST_WAITING = 10_000  # lines; a disk that is slower than that loses some
TOLD = "sidestep.told"  # where in the scope the guards leave what else is known of a request


class AccessLog:
    """Takes lines on the event loop, and writes them on a thread of its own."""

    def __init__(self, where: str, lost: Counter) -> None:
        """Open the file, or the standard output for "-"; `lost` counts lines not written.

        A file that was renamed or removed, as when logs are rotated, is opened anew.
        """
        handler = open_handler(where)
        self._lost, self._told = lost, False
        handler.handleError = self._failed  # type: ignore[method-assign]
        lines: Queue[logging.LogRecord] = Queue(MOST_WAITING)
        self._handler, self._queue = handler, _Dropping(lines, lost)
        self._listener = _Patient(lines, handler)
        self._listener.start()

    def write(self, values: dict[str, Any]) -> None:
        """Write one line, soon."""
        text = json.dumps(values)
        self._queue.handle(logging.LogRecord("access", logging.INFO, "", 0, text, None, None))

    def close(self) -> None:
        """Write what waits, and close the file."""
        self._listener.stop()
        with suppress(OSError):  # of lines that were counted when they could not be written
            self._handler.close()

    def _failed(self, record: logging.LogRecord) -> None:
        self._lost.inc()
        if not self._told:
            logger.error("the access log cannot be written (%s)", sys.exc_info()[1])
        self._told = True


def open_handler(where: str) -> logging.Handler:
    """Open what the lines are written to; raises InvalidRequest if it cannot be."""
    try:
        return logging.StreamHandler(sys.stdout) if where == "-" else _Reopened(where)
    except OSError as error:
        message = f"access_log: {where} cannot be written ({error.strerror})"
        raise InvalidRequest(message, field="access_log") from None


class _Reopened(WatchedFileHandler):
    """Tells of a file that cannot be opened anew, and tries again at the next line.

    What the standard handler raises then would end the listener's thread.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)


class _Patient(QueueListener):
    """Waits for room in the queue to say that it ends."""

    queue: Queue[Any]

    def enqueue_sentinel(self) -> None:
        self.queue.put(None)


class _Dropping(QueueHandler):
    """Counts what finds no room, and waits for nothing."""

    def __init__(self, lines: Queue[logging.LogRecord], lost: Counter) -> None:
        super().__init__(lines)
        self._lost = lost

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except Full:
            self._lost.inc()


class LogRequests:
    """ASGI middleware: writes a line when an answer is complete."""

    def __init__(self, app: ASGIApp, log: AccessLog) -> None:
        """Wrap `app`."""
        self._app, self._log = app, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and look at the answer; a request without one has status null."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, length = time.perf_counter(), None, 0

        async def watching(message: Message) -> None:
            nonlocal status, length
            if message["type"] == "http.response.start":
                status = message["status"]
            length += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, watching)
        finally:
            client = scope.get("client")
            values = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "ms": round(1e3 * (time.perf_counter() - began), 2),
                "bytes": length,
                "address": client[0] if client else None,
            }
            self._log.write(values | scope.get(TOLD, {}))
