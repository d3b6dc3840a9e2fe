"""What every request passes before a route sees it: sizes, time, and keys.

One ASGI class around our own app and around BentoML's own route.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.access_log import TOLD
from serve.body import MAX_PAGE_BODY, read_body
from serve.callers import Caller, asking
from serve.errors import HeadersTooLarge, answer, translate
from serve.keys import Key, KeyRing
from serve.metrics import Metrics, reason_of
from serve.openai_images import answer as openai_answer
from serve.settings import Settings
from sidestep.errors import SidestepError, Unauthorized

OPEN = ("/livez", "/readyz")  # what asks for them has no key, and learns nothing else
OPENAI, PAGE = "/v1/", "/ui/"


class Guards:
    """Lets a request through whose headers, body and key are as they should be."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        """Wrap `app`; raises InvalidRequest if the file of keys cannot be read."""
        self._app, self._settings, self._metrics = app, settings, metrics
        self._ring = KeyRing(Path(settings.keys)) if settings.keys else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is in order, and answer the rest."""
        if scope["type"] == "websocket":  # nothing here speaks it
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            headers = Headers(scope=scope)
            self._check_size(headers)
            caller = self._caller(scope, headers)
            body = await self._body(scope, receive, headers)
        except SidestepError as error:
            self._metrics.refused.labels("", reason_of(error)).inc()
            await self._refuse(error, scope, receive, send)
            return
        scope[TOLD] = caller.told  # for the access log, which is outside
        with asking(caller):
            await self._app(scope, receive if body is None else _replayed(body, receive), send)

    def _check_size(self, headers: Headers) -> None:
        limit = self._settings.header_limit
        if sum(len(name) + len(value) + 4 for name, value in headers.raw) > limit:
            raise HeadersTooLarge(f"the headers must be at most {limit:,} bytes")

    def _caller(self, scope: Scope, headers: Headers) -> Caller:
        """Tell who asks; raises Unauthorized where a key is needed and none fits."""
        client = scope.get("client")
        forwarded = any(name in headers for name in ("x-forwarded-for", "forwarded", "x-real-ip"))
        address = client[0] if client else ""
        caller = Caller(address, forwarded=forwarded, web=_of_a_page(headers))
        if self._ring is not None and scope["path"] not in OPEN:
            caller.key = _find(self._ring, headers)
            caller.told["key"] = caller.key.name
        return caller

    async def _body(self, scope: Scope, receive: Receive, headers: Headers) -> bytes | None:
        """Read the body as far as the limit; None where there is none."""
        if "content-length" not in headers and "transfer-encoding" not in headers:
            return None
        limit = self._settings.body_limit
        if scope["path"].startswith(PAGE):
            limit = max(limit, MAX_PAGE_BODY)
        announced = headers.get("content-length", "")
        return await read_body(receive, announced, limit=limit, within_s=self._settings.receive_s)

    async def _refuse(
        self, error: SidestepError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        failure = translate(error)
        if isinstance(error, Unauthorized):
            browser = "text/html" in Headers(scope=scope).get("accept", "")
            failure.headers["WWW-Authenticate"] = _BASIC if browser else _BEARER
        write = openai_answer if scope["path"].startswith(OPENAI) else answer
        await write(failure)(scope, receive, send)


_BEARER = 'Bearer realm="sidestep"'
_BASIC = 'Basic realm="sidestep: any name, and the API key as password", charset="UTF-8"'


def _of_a_page(headers: Headers) -> bool:
    """Whether a browser sends this for a page, of whatever origin; it tells in these headers."""
    site = headers.get("sec-fetch-site", "none")
    return "origin" in headers or site not in ("none", "same-origin")


def _find(ring: KeyRing, headers: Headers) -> Key:
    secret = _secret(headers)
    if secret is None:
        message = "an API key is needed: send Authorization: Bearer KEY, or X-API-Key: KEY"
        raise Unauthorized(message)
    key = ring.find(secret)
    if key is None:
        raise Unauthorized("this API key is not known here; ask whoever runs the service for one")
    return key


def _secret(headers: Headers) -> str | None:
    """Read the key out of a header; a browser sends it as the password of its dialogue."""
    if key := headers.get("x-api-key"):
        return key.strip()
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).decode("utf-8").partition(":")[2]
        except (binascii.Error, ValueError):
            return None
    return None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Give the body that was read already, and then what the connection tells."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
