"""/metrics for Prometheus. Every label has few values: formats, reasons, route templates."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.batcher import Batcher
from sidestep import __version__
from sidestep.errors import ServiceBusy, ServiceUnavailable, Superseded
from sidestep.requests import Picture

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Metrics:
    """The service's own registry; BentoML's has raw paths as labels, which grow without bound."""

    def __init__(self, batcher: Batcher) -> None:
        """Watch `batcher`; pictures and refusals are reported by `watched`."""
        self.registry = registry = CollectorRegistry()

        def seconds(name: str, help: str) -> Histogram:
            return Histogram(f"sidestep_{name}_seconds", help, registry=registry, buckets=_SECONDS)

        self._queue = seconds("queue", "From a picture's request to its engine call.")
        self._engine = seconds("engine", "The engine call of a picture, for its whole batch.")
        self._encode = seconds("encode", "From a picture's pixels to its file.")
        self._total = seconds("total", "From a picture's request to its file.")
        self._pictures = Counter(
            "sidestep_pictures", "Pictures drawn.", ["format"], registry=registry
        )
        self._refused = Counter(
            "sidestep_refused", "Requests that got no picture.", ["reason"], registry=registry
        )
        self.requests = Counter(
            "sidestep_http_requests",
            "HTTP answers.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._watch(batcher)

    def _watch(self, batcher: Batcher) -> None:
        batches = Histogram(
            "sidestep_batch_pictures",
            "Pictures in an engine call.",
            registry=self.registry,
            buckets=batcher.device.spec.buckets,
        )
        batcher.on_batch = batches.observe
        for name, text, read in (
            ("queued_pictures", "Pictures that wait.", lambda: batcher.queued),
            ("ready", "Whether pictures can be drawn.", lambda: batcher.ready),
            ("engine_openings", "How often the engine was opened.", lambda: batcher.device.opened),
        ):
            Gauge(f"sidestep_{name}", text, registry=self.registry).set_function(read)
        info = Gauge(
            "sidestep_info", "What is served.", ["version", "engine"], registry=self.registry
        )
        info.labels(__version__, batcher.device.spec.name).set(1)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count why the request inside ends without pictures, if it does."""
        try:
            yield
        except BaseException as error:
            self._refused.labels(_reason(error)).inc()
            raise

    def drawn(self, pictures: Iterable[Picture]) -> None:
        """Count pictures and their times."""
        for picture in pictures:
            timings = picture.timings
            self._pictures.labels(picture.format).inc()
            self._queue.observe(timings.queue_ms / 1e3)
            self._engine.observe(timings.engine_ms / 1e3)
            self._encode.observe(timings.encode_ms / 1e3)
            self._total.observe(timings.total_ms / 1e3)

    def text(self) -> bytes:
        """Write all metrics in Prometheus's text format."""
        return generate_latest(self.registry)


class CountRequests:
    """ASGI middleware: counts answers by method, route template and status."""

    def __init__(self, app: ASGIApp, requests: Counter) -> None:
        """Wrap `app`."""
        self._app, self._requests = app, requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and look at the first message of the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self._requests.labels(method, _route(scope), message["status"]).inc()
            await send(message)

        await self._app(scope, receive, counting)


def _route(scope: Scope) -> str:
    """Name the route's template; mounted apps and unknown paths are one each."""
    if route := scope.get("route"):
        return str(route.path)
    return str(scope.get("root_path") or "other")


def _reason(error: BaseException) -> str:
    if isinstance(error, ServiceBusy):
        return error.reason
    if isinstance(error, Superseded):
        return "superseded"
    if isinstance(error, ServiceUnavailable):
        return "unavailable"
    return "left" if isinstance(error, asyncio.CancelledError) else "failed"
