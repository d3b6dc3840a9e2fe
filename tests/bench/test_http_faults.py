"""What is told of requests that nobody answered, with real sockets where they can fail."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.http_client import HttpCaller, Target, allow_connections
from bench.http_faults import failure, fault_of
from bench.load import DEAD_AFTER, Answer, Outcome, Run

HERE = "127.0.0.1:9"


def run_of(*answers: Answer, died: bool = False) -> Run:
    return Run([Outcome(answer, 0.0, 0.0, 1.0) for answer in answers], died)


@contextmanager
def no_more_files() -> Iterator[None]:
    """Let nothing more be opened."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))  # of which stdin is the first
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_a_host_that_is_none() -> None:
    assert (await HttpCaller(Target("a..b", 9, "/"), [b""]).ask()).code == "unknown host"
    assert fault_of(socket.gaierror(-2, "Name or service not known")) == "unknown host"


async def test_all_addresses_of_a_host_refuse() -> None:
    assert (await HttpCaller(Target("localhost", 9, "/"), [b""]).ask()).code == "refused"
    both = "Multiple exceptions: [Errno 111] Connect call failed ('::1', 9, 0, 0), "
    both += "[Errno 111] Connect call failed ('127.0.0.1', 9)"  # as asyncio tells it
    assert fault_of(OSError(both)) == "refused"


async def test_a_service_that_speaks_no_tls() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        answer = await HttpCaller(Target("127.0.0.1", port, "/", secure=True), [b""]).ask()
    assert answer.code == "TLS failed: wrong version number"
    told = failure(run_of(answer), f"127.0.0.1:{port}", answered=False)
    assert told is not None
    assert "give http:// where it speaks no TLS" in told


async def test_files_that_this_machine_has_no_more_of() -> None:
    with no_more_files():
        answer = await HttpCaller(Target("127.0.0.1", 9, "/"), [b""]).ask()
    assert answer.code == "too many open files"
    run = run_of(Answer(200), *[answer] * DEAD_AFTER, died=True)
    told = failure(run, HERE, answered=True)
    assert told is not None
    assert told.startswith(f"{HERE} could not be asked any more: too many open files; raise")


def test_as_many_connections_as_the_machine_allows() -> None:
    with no_more_files():
        allow_connections()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == hard > 3


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.EADDRNOTAVAIL, "x"), "no free port"),
        (OSError(errno.EHOSTUNREACH, "x"), "no route"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "broken"),
        (EOFError(), "broken"),
    ],
)
def test_faults_are_named(error: Exception, told: str) -> None:
    assert fault_of(error) == told


def test_who_answered_once_died_and_who_never_did_cannot_be_reached() -> None:
    refused = [Answer(0, "refused")] * DEAD_AFTER
    told = failure(run_of(*refused, died=True), HERE, answered=False)
    mend = "start the service, or mend the URL's port"
    assert told == f"{HERE} cannot be reached: refused; {mend}"
    told = failure(run_of(*refused, died=True), HERE, answered=True)
    assert told == f"{HERE} died: refused; 0 of 20 requests were answered well"
    told = failure(run_of(Answer(0, "no answer in 30 s")), HERE, answered=False)
    assert told == f"{HERE} cannot be reached: no answer in 30 s"
    told = failure(run_of(Answer(200), Answer(0, "refused")), HERE, answered=False)
    assert told == f"of 2 requests some were answered wrongly: 1 times refused; {mend}"


def test_refusals_are_no_failure() -> None:
    assert failure(run_of(Answer(429), Answer(503)), HERE, answered=False) is None
