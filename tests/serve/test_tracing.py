from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from serve.models import Models
from serve.run import check_guards
from serve.settings import Settings
from serve.tracing import bentoml_options
from sidestep.engines.fake import FakeEngine
from sidestep.errors import BackendUnavailable
from sidestep.generator import Generator
from sidestep.requests import GenerateRequest

MakeGenerator = Callable[[FakeEngine], Generator]


async def test_each_stage_of_a_picture_is_a_span_of_its_request(
    make_generator: MakeGenerator,
) -> None:
    provider, spans = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    models = Models([make_generator(FakeEngine(tokens=12, delay_s=0.02))], Settings())
    models.tracer = tracer = provider.get_tracer("test")
    await models.start()
    with tracer.start_as_current_span("request") as request:
        pictures = await models.generate(GenerateRequest(prompt="a", seed=7, count=2))
    await models.generate(GenerateRequest(prompt="a"))  # nobody traces this
    await models.stop()
    *stages, whole = spans.get_finished_spans()
    assert whole.name == "request"
    assert [span.name for span in stages] == ["queue", "engine", "encode"] * 2
    assert {span.parent.span_id for span in stages if span.parent} == {
        request.get_span_context().span_id
    }
    for number, picture in enumerate(pictures):
        own = stages[3 * number : 3 * number + 3]
        for span, earlier in zip(own[1:], own, strict=False):
            assert span.start_time == earlier.end_time
        engine = own[1]
        assert engine.start_time is not None
        assert engine.end_time is not None
        ms = (engine.end_time - engine.start_time) / 1e6
        assert ms == pytest.approx(picture.timings.engine_ms, abs=0.01)
        assert engine.attributes is not None
        assert engine.attributes["sidestep.seed"] == str(picture.seed)


async def test_what_is_not_sampled_costs_no_spans(make_generator: MakeGenerator) -> None:
    provider, spans = TracerProvider(sampler=ALWAYS_OFF), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    models = Models([make_generator(FakeEngine(tokens=12))], Settings())
    models.tracer = tracer = provider.get_tracer("test")
    await models.start()
    with tracer.start_as_current_span("request"):
        await models.generate(GenerateRequest(prompt="a"))
    await models.stop()
    assert spans.get_finished_spans() == ()


def test_bentoml_s_configuration() -> None:
    assert bentoml_options(None, 100) == {"excluded_urls": "."}
    told = bentoml_options("http://localhost:4318/v1/traces", 25)
    assert told["sample_rate"] == 0.25
    assert told["otlp"]["endpoint"] == "http://localhost:4318/v1/traces"


def test_a_missing_exporter_is_named() -> None:
    try:
        installed = find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        installed = False
    settings = Settings(traces="http://localhost:4318/v1/traces")
    if installed:
        check_guards(settings)
    else:
        with pytest.raises(BackendUnavailable, match="opentelemetry-exporter-otlp-proto-http"):
            check_guards(settings)
