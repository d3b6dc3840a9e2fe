"""/metrics for Prometheus. Labels have few values: models, formats, reasons, route templates."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.batcher import Batcher
from serve.errors import ClientLeft, HeadersTooLarge, PolicyViolation, SlowClient
from serve.memory import DeviceMemory
from sidestep import __version__
from sidestep.errors import (
    InvalidRequest,
    RequestTooLarge,
    ServiceBusy,
    ServiceUnavailable,
    Superseded,
    Unauthorized,
)
from sidestep.requests import Picture

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (Superseded, "superseded"),
    (ServiceUnavailable, "unavailable"),
    (asyncio.CancelledError, "left"),
    (ClientLeft, "left"),
    (Unauthorized, "unauthorized"),
    (SlowClient, "slow"),
    (PolicyViolation, "policy"),
    (HeadersTooLarge, "too_large"),
    (RequestTooLarge, "too_large"),
    (InvalidRequest, "invalid"),
)
_BATCHES = (1, 2, 4, 8, 16, 32, 64)
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Metrics:
    """The service's own registry; BentoML's has raw paths as labels, which grow without bound."""

    def __init__(self) -> None:
        """Make every metric; each model reports to its own children, see `of`."""
        self.registry = registry = CollectorRegistry()
        model = ["model"]

        def seconds(name: str, help: str) -> Histogram:
            name = f"sidestep_{name}_seconds"
            return Histogram(name, help, model, registry=registry, buckets=_SECONDS)

        def counter(name: str, help: str, labels: list[str]) -> Counter:
            return Counter(f"sidestep_{name}", help, labels, registry=registry)

        def gauge(name: str, help: str, labels: list[str] = model) -> Gauge:
            return Gauge(f"sidestep_{name}", help, labels, registry=registry)

        self.times = {
            "queue": seconds("queue", "From a picture's request to its engine call."),
            "engine": seconds("engine", "The engine call of a picture, for its whole batch."),
            "encode": seconds("encode", "From a picture's pixels to its file."),
            "total": seconds("total", "From a picture's request to its file."),
        }
        self.batches = Histogram(
            "sidestep_batch_pictures",
            "Pictures in an engine call.",
            model,
            registry=registry,
            buckets=_BATCHES,
        )
        self.pictures = counter("pictures", "Pictures drawn.", ["model", "format"])
        self.refused = counter("refused", "Requests that got no picture.", ["model", "reason"])
        self.reloads = counter("reloads", "Models opened anew while serving.", ["model", "result"])
        self.lost_lines = counter("lost_log_lines", "Lines of the access log not written.", [])
        self.requests = counter("http_requests", "HTTP answers.", ["method", "route", "status"])
        self.queued = gauge("queued_pictures", "Pictures that wait.")
        self.ready = gauge("ready", "Whether pictures can be drawn.")
        self.openings = gauge("engine_openings", "How often the engine was opened.")
        self.info = gauge("info", "What is served.", ["model", "version", "engine", "weights"])
        registry.register(DeviceMemory())
        ProcessCollector(registry=registry)
        self.told: dict[str, tuple[str, ...]] = {}  # the labels of `info`, by model

    def of(self, model: str) -> ModelMetrics:
        """Return where one model reports."""
        return ModelMetrics(self, model)

    @contextmanager
    def watched(self, model: str = "") -> Iterator[None]:
        """Count why the request inside ends without pictures, if it does.

        model: empty before one was chosen
        """
        try:
            yield
        except BaseException as error:
            self.refused.labels(model, reason_of(error)).inc()
            raise

    def text(self) -> bytes:
        """Write all metrics in Prometheus's text format."""
        return generate_latest(self.registry)


class ModelMetrics:
    """What one model reports; all that takes its place under the same name report here too."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        """Find the model's children once, and not at every picture."""
        self._metrics, self._model = metrics, model
        self._times = {name: metric.labels(model) for name, metric in metrics.times.items()}
        self._batches = metrics.batches.labels(model)

    def watch(self, batcher: Batcher) -> None:
        """Show this batcher's state from now on, and no other's."""
        metrics, model, spec = self._metrics, self._model, batcher.device.spec
        batcher.on_batch = self._batches.observe
        metrics.queued.labels(model).set_function(lambda: batcher.queued)
        metrics.ready.labels(model).set_function(lambda: batcher.ready)
        metrics.openings.labels(model).set_function(lambda: batcher.device.opened)
        if told := metrics.told.pop(model, None):
            metrics.info.remove(*told)
        metrics.told[model] = told = (model, __version__, spec.name, spec.weights[:12])
        metrics.info.labels(*told).set(1)

    def watched(self) -> AbstractContextManager[None]:
        """Count why the request inside ends without pictures, if it does."""
        return self._metrics.watched(self._model)

    def drawn(self, pictures: Iterable[Picture]) -> None:
        """Count pictures and their times."""
        for picture in pictures:
            timings = picture.timings
            self._metrics.pictures.labels(self._model, picture.format).inc()
            self._times["queue"].observe(timings.queue_ms / 1e3)
            self._times["engine"].observe(timings.engine_ms / 1e3)
            self._times["encode"].observe(timings.encode_ms / 1e3)
            self._times["total"].observe(timings.total_ms / 1e3)


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


def reason_of(error: BaseException) -> str:
    """Name why there is no picture, with one of few words."""
    if isinstance(error, ServiceBusy):
        return error.reason
    return next((word for kind, word in _REASONS if isinstance(error, kind)), "failed")
