"""The timeout around every request, in the app that BentoML makes of our service."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.service import LONGEST_S, service
from serve.timeout import Timeout


def timers() -> int:
    """Count what the event loop will still call later."""
    loop: Any = asyncio.get_running_loop()
    return sum(not handle.cancelled() for handle in loop._scheduled)


def client(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here")


async def test_an_answered_request_leaves_no_timer() -> None:
    app = service.to_asgi()
    async with client(app) as http:
        before = timers()
        for _ in range(20):
            assert (await http.get("/livez")).status_code == 200
        assert timers() == before
    kept = [one.kwargs for one in app.user_middleware if one.cls is Timeout]
    assert kept == [{"timeout": LONGEST_S}]


async def test_what_takes_too_long_is_told_in_our_shape() -> None:
    ended = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async with client(Timeout(slow, 0.05)) as http:
        late = await http.get("/")
    assert late.status_code == 503
    assert late.json()["error"]["message"] == "there was no answer within 0.05 seconds"
    assert ended.is_set()


async def test_an_answer_that_began_may_take_its_time() -> None:
    async def draws(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.2)
        await send({"type": "http.response.body", "body": b"a picture"})

    async with client(Timeout(draws, 0.05)) as http:
        assert (await http.get("/")).content == b"a picture"


async def test_another_timeout_is_none_of_its_business() -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise TimeoutError("a secret of the engine")

    async with client(Timeout(fails, 60)) as http:
        with pytest.raises(TimeoutError, match="secret"):
            await http.get("/")
    async with client(Timeout(PlainTextResponse("here"), 60)) as http:
        assert (await http.get("/")).text == "here"
