"""OpenTelemetry: BentoML makes the span of a request, and this its stages, picture by picture.

request (BentoML)
├── queue     from the request to the engine's call
├── engine    the call, for its whole batch
└── encode    from the pixels to the file
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sidestep.errors import BackendUnavailable
from sidestep.requests import Picture

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

EXPORTER = "opentelemetry-exporter-otlp-proto-http"
NOTHING = {"excluded_urls": "."}  # spans that nobody collects cost as much as the rest of HTTP
QUIET = "livez,readyz,metrics,/ui/"  # asked for all the time


def bentoml_options(address: str | None, percent: int) -> dict[str, Any]:
    """Return the `tracing` of BentoML's configuration; spans go to `address` as OTLP over HTTP."""
    if not address:
        return NOTHING
    return {
        "exporter_type": "otlp",
        "sample_rate": percent / 100,
        "excluded_urls": QUIET,
        "otlp": {"protocol": "http", "endpoint": address},
    }


def check_exporter() -> None:
    """Raise BackendUnavailable where the package that sends spans is not installed."""
    try:
        found = find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise BackendUnavailable(EXPORTER)


def bentoml_tracer() -> Tracer:
    """Return the tracer whose spans go where BentoML's go."""
    from bentoml._internal.configuration.containers import BentoMLContainer

    tracer: Tracer = BentoMLContainer.tracer_provider.get().get_tracer("sidestep")
    return tracer


def trace_stages(tracer: Tracer | None, pictures: Sequence[Picture]) -> None:
    """Add the stages of pictures that are just done to the current span, if that is sampled."""
    if tracer is None:
        return
    from opentelemetry.trace import get_current_span

    if not get_current_span().is_recording():
        return
    now_ns = time.time_ns()
    for picture in pictures:
        timings = picture.timings
        told: dict[str, str | int] = {
            "sidestep.seed": str(picture.seed),
            "sidestep.batch": timings.batch_size,
        }
        at_ns = now_ns - round(1e6 * timings.total_ms)
        for name in ("queue", "engine", "encode"):
            span = tracer.start_span(name, start_time=at_ns, attributes=told)
            at_ns += round(1e6 * getattr(timings, f"{name}_ms"))
            span.end(end_time=at_ns)
