"""Clients that send their requests slowly, or never."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import httpx
import pytest

from serve.app import create_app
from serve.connections import HEAD_LIMIT, PatientProtocol
from serve.settings import Settings
from sidestep.engines.fake import FakeEngine
from sidestep.generator import Generator


class Hasty(PatientProtocol):
    receive_s = 1.0


@pytest.fixture(scope="module")
def address(
    make_generator: Callable[[FakeEngine], Generator], listen: Callable[..., str]
) -> tuple[str, int]:
    app = create_app(make_generator(FakeEngine(tokens=12, delay_s=1.5)), Settings(hang_s=60))
    url = httpx.URL(listen(app, http=Hasty))
    assert url.port
    return url.host, url.port


def read_all(connection: socket.socket) -> bytes:
    answer = b""
    while chunk := connection.recv(65536):
        answer += chunk
    return answer


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nHost: a\r\n"])
def test_a_head_that_never_comes(address: tuple[str, int], sent: bytes) -> None:
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(sent)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b'"code": "slow_client"' in answer


def test_a_head_that_comes_byte_by_byte(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=60) as connection:
        connection.settimeout(0.05)
        answer = b""
        for _ in range(1000):
            try:
                connection.sendall(b"x")
                if chunk := connection.recv(65536):
                    answer += chunk
                else:
                    break
            except TimeoutError:
                pass
            except ConnectionError:
                break
        else:
            pytest.fail("nobody ended the connection")
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize("before", [b"", b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_a_head_without_end(address: tuple[str, int], before: bytes) -> None:
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(before)
        if before:
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /livez HTTP/1.1\r\nX-Long: ")
        sent = 0
        try:
            while sent < 10_000_000:
                sent += connection.send(b"x" * 4096)
            pytest.fail("ten million bytes of a header were taken")
        except ConnectionError:
            pass


def test_a_head_that_is_too_long_is_told(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nX-Long: " + b"x" * HEAD_LIMIT)
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert b'"code": "headers_too_large"' in answer


def test_what_is_drawn_may_take_longer(address: tuple[str, int]) -> None:
    with httpx.Client(base_url="http://{}:{}".format(*address), timeout=60) as http:
        for _ in range(2):
            answer = http.post("/generate", json={"prompt": "a"})
            assert answer.status_code == 200
            assert answer.elapsed.total_seconds() > 1.4


def test_a_refused_body_is_not_read_for_ever(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=60) as connection:
        head = b"POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n"
        connection.sendall(head)
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")
        try:
            for _ in range(1000):
                connection.sendall(b"x")
                time.sleep(0.02)
        except ConnectionError:
            return
    pytest.fail("nobody ended the connection")


def test_an_idle_connection_is_closed_without_a_word(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"408" not in answer
