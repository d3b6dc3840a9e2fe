"""The same `generate` over HTTP.

    async with Client("http://127.0.0.1:3000") as client:
        pictures = await client.generate(GenerateRequest(prompt="red apple", seed=7))

Needs an event loop, as the service's own `generate` does, so that a page can use either.
"""

from __future__ import annotations

import base64
import ipaddress
import json
from dataclasses import fields
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

import httpx

from sidestep.errors import (
    Forbidden,
    InvalidModel,
    InvalidRequest,
    RequestTooLarge,
    ServiceBusy,
    ServiceUnavailable,
    Superseded,
    Unauthorized,
)
from sidestep.images import MEDIA_TYPES
from sidestep.model_info import ModelInfo
from sidestep.requests import (
    FORMATS,
    GenerateRequest,
    ImageFormat,
    Picture,
    Timings,
    read_server_timing,
)

TIMEOUT_S = 60.0
MARGIN_S = 10.0  # for a picture that is drawn at its deadline to arrive
_TIMINGS = tuple(field.name for field in fields(Timings))


class Client:
    """A sidestep service at `url`; keeps its connections open until closed."""

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        """Make a client; nothing is sent yet.

        key: the API key, where the service wants one
        timeout_s: how long an answer may take; where a request has a later deadline, that long

        Raises InvalidRequest where `url` is no address or `key` cannot be a header.
        """
        if key and not (key.isascii() and key.isprintable()):
            raise InvalidRequest("the API key must be printable ASCII", field="key")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            address = httpx.URL(url.rstrip("/"))
        except httpx.InvalidURL as error:
            raise _no_address(error) from None
        self._timeout_s = timeout_s
        self._http = httpx.AsyncClient(
            base_url=address, headers=headers, timeout=timeout_s, mounts=_past_proxies(address)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def generate(self, request: GenerateRequest) -> list[Picture]:
        """Draw all pictures of a request; picture i has seed + i.

        Raises InvalidRequest with the field that the service refused, Unauthorized without the
        API key that it wants, ServiceBusy when it would be too late, Superseded when a newer
        request of the same client replaced this one, and ServiceUnavailable when the service
        cannot be reached, is stopping or fails.
        """
        body = request.model_dump(exclude_none=True)
        timeout_s = self._timeout_s
        if request.deadline_ms:
            timeout_s = max(timeout_s, request.deadline_ms / 1e3 + MARGIN_S)
        response = await self._send("POST", "/generate", json=body, timeout=timeout_s)
        return _pictures(response, request)

    async def models(self) -> list[ModelInfo]:
        """Ask which models are served; raises ServiceUnavailable where that cannot be learned."""
        response = await self._send("GET", "/models")
        try:
            return [ModelInfo.from_json(values) for values in response.json()["models"]]
        except (KeyError, TypeError, ValueError) as error:
            raise _not_ours(response, error) from error

    async def reload(self, model: str | None = None) -> list[dict[str, str]]:
        """Let the service open a model anew, or all; returns what draws now.

        Each has `name`, `engine` and `weights`. Raises InvalidModel if the folder is damaged,
        Forbidden unless this is the service's own machine or the key is an admin's, and as
        `generate` does.
        """
        response = await self._send("POST", "/models/reload", json={"model": model})
        try:
            reloaded: list[dict[str, str]] = response.json()["models"]
        except (KeyError, TypeError, ValueError) as error:
            raise _not_ours(response, error) from error
        return reloaded

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send and return a good answer; raises what the service told of a bad one."""
        try:
            response = await self._http.request(method, path, **options)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise _no_address(error) from None
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise ServiceUnavailable(
                f"the service at {self._http.base_url} cannot be reached ({reason})"
            ) from error
        if response.is_success:
            return response
        raise _error(response)


def _past_proxies(address: httpx.URL) -> dict[str, None]:
    """Take no proxy to this machine itself, whatever http_proxy says: it would ask its own."""
    try:
        here = ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        here = address.host == "localhost"
    return dict.fromkeys(("http://", "https://", "all://")) if here else {}


def _no_address(error: Exception) -> InvalidRequest:
    return InvalidRequest(f"the address is not a URL ({error})", field="url")


def _pictures(response: httpx.Response, request: GenerateRequest) -> list[Picture]:
    try:
        if response.headers["content-type"].split(";")[0] == "application/json":
            return [_from_json(values) for values in response.json()["pictures"]]
        return [_from_bytes(response, request)]
    except (KeyError, TypeError, ValueError) as error:
        raise _not_ours(response, error) from error


def _not_ours(response: httpx.Response, error: Exception) -> ServiceUnavailable:
    message = f"the answer of {response.url} is not a sidestep service's ({error!r})"
    return ServiceUnavailable(message)


def _from_json(values: dict[str, Any]) -> Picture:
    return Picture(
        base64.b64decode(values["data"]),
        int(values["seed"]),
        _format(values["format"]),
        Timings(**{name: values["timings"][name] for name in _TIMINGS}),
        values["dropped"],
    )


def _from_bytes(response: httpx.Response, request: GenerateRequest) -> Picture:
    """Read one picture and its headers."""
    if response.headers["content-type"] != MEDIA_TYPES[request.format]:
        raise ValueError(response.headers["content-type"])
    parts = read_server_timing(response.headers.get("server-timing", ""))
    timings = Timings(
        parts.get("queue", 0.0),
        parts.get("engine", 0.0),
        parts.get("encode", 0.0),
        int(parts.get("batch", 1)),
    )
    seed = int(response.headers["x-seed"])
    dropped = unquote(response.headers.get("x-prompt-dropped", ""))
    return Picture(response.content, seed, request.format, timings, dropped)


def _format(name: object) -> ImageFormat:
    for known in FORMATS:
        if known == name:
            return known
    raise ValueError(name)


def _number(header: str | None) -> float | None:
    return float(header) if header and header.isdecimal() else None


def _error(response: httpx.Response) -> Exception:
    """Turn the service's error answer into the exception that the service had."""
    try:
        told = json.loads(response.content)["error"]
        message, field, code = str(told["message"]), told.get("field"), told.get("code")
    except (KeyError, TypeError, ValueError, AttributeError):
        message, field, code = f"the service answered {response.status_code}", None, None
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        after = _number(response.headers.get("retry-after"))
        wait_ms = _number(response.headers.get("x-predicted-wait-ms"))
        wait_s = None if wait_ms is None else wait_ms / 1e3
        return ServiceBusy(message, retry_after_s=1.0 if after is None else after, wait_s=wait_s)
    if response.status_code == httpx.codes.CONFLICT:
        return InvalidModel(message) if code == InvalidModel.code else Superseded(message)
    if response.status_code == httpx.codes.UNAUTHORIZED:
        return Unauthorized(message)
    if response.status_code == httpx.codes.FORBIDDEN:
        return Forbidden(message)
    if response.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
        return RequestTooLarge(message, field=field)
    if response.is_client_error:
        return InvalidRequest(message, field=field)
    return ServiceUnavailable(message)
