"""Who asks: known to everything that a request reaches, without being handed through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from serve.keys import Key


@dataclass
class Caller:
    """Where a request comes from, and with which key.

    forwarded: whether a proxy passed it on
    web: whether a web page asks, by a browser
    told: what the access log should tell of the request
    """

    address: str = ""
    key: Key | None = None
    forwarded: bool = False
    web: bool = False
    told: dict[str, Any] = field(default_factory=dict)


_current: ContextVar[Caller | None] = ContextVar("caller", default=None)


def current() -> Caller:
    """Return who asks; somebody unknown outside a request."""
    return _current.get() or Caller()


@contextmanager
def asking(caller: Caller) -> Iterator[None]:
    """Make `caller` the one who asks inside."""
    token = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(token)
