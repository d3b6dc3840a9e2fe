"""The service's own benchmark believes no figure of an answer that is none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from bench.http_client import HttpCaller
from bench.serving import main, timed
from sidestep.errors import BenchmarkFailed


async def test_a_fault_is_no_time(raw_server: Callable[..., Any]) -> None:
    async def answers(index: int) -> bytes:
        status = "500 Internal Server Error" if index else "200 OK"
        return f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok".encode()

    async with raw_server(answers) as server:
        caller = HttpCaller(server.target, [b"{}"])
        assert await timed(caller) > 0
        with pytest.raises(BenchmarkFailed, match="/draw answered 500"):
            await timed(caller)
        await caller.close()


def test_an_unknown_part_is_refused_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench.serving", "steady", "speed"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert "'speed' is no PART; there are overhead, saturation" in capsys.readouterr().err
