"""`sidestep bench http`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import click

from serve.settings import Settings, variable
from sidestep.cli.options import DECODER, ENGINE, GATE, KEY, MODEL, REPORT_OUT
from sidestep.errors import BenchmarkFailed, InvalidRequest

FLAGGED = ("model", "engine", "decoder", "host", "port")  # which our own service gets as flags


@click.command()
@click.argument("url", required=False)
@MODEL
@ENGINE
@DECODER
@click.option("--slo-ms", type=click.FloatRange(0.1), default=100.0, show_default=True)
@click.option(
    "--slo-percent",
    type=click.FloatRange(1, 99.99),
    default=99.0,
    show_default=True,
    help="The promise: of all requests, this share gets a picture within --slo-ms.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0.01),
    help="Requests per second of one open loop.  [default: search the largest that keeps it]",
)
@click.option(
    "--callers",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Run a closed loop of so many callers before, for comparison.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1),
    default=20.0,
    show_default=True,
    help="Of each loop; longer where the percentile needs more requests.",
)
@click.option(
    "--body",
    default="{}",
    show_default=True,
    help="JSON that each request carries; with a prompt inside, it is the whole body.",
)
@click.option("--prompt", "prompts", multiple=True, help="A prompt to ask for; several in turn.")
@click.option(
    "--timeout", type=click.FloatRange(0.1), default=30.0, show_default=True, help="In seconds."
)
@KEY
@GATE
@click.option("--note", "notes", multiple=True, help="What a reader of the report should know.")
@REPORT_OUT
def command(
    url: str | None,
    model: Path | None,
    engine: str,
    decoder: str,
    slo_ms: float,
    slo_percent: float,
    rate: float | None,
    callers: int,
    seconds: float,
    body: str,
    prompts: tuple[str, ...],
    timeout: float,
    key: str | None,
    gates: tuple[str, ...],
    notes: tuple[str, ...],
    out: Path | None,
) -> None:
    """Load the service at URL, or one of our own with --model, and report what callers see.

    Requests arrive at random (Poisson), whether or not earlier ones are answered, and latency
    counts from when a request was due: a service that stalls cannot hide it by being asked less.
    Without --rate the largest rate is searched at which the promise is kept. Any service that
    answers POST requests can be measured; a URL without a path means /generate.

    Exit code 1 if it cannot be reached, dies or answers errors (429 and 503 are refusals, and
    only counted); what was measured is reported all the same.
    """
    import asyncio

    from bench.http import PROMPTS, Plan, measure
    from bench.http_client import Target
    from bench.markdown import report_text
    from bench.service import serving
    from bench.sweep import Promise

    plan = Plan(
        rate=rate,
        callers=callers,
        seconds=seconds,
        promise=Promise(slo_ms, slo_percent),
        prompts=prompts or PROMPTS,
        body=_body(body),
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout_s=timeout,
        tell=partial(click.echo, err=True),
    )
    ours = model is not None or engine != "auto" or decoder != "full" or bool(gates)
    if url is not None and ours:
        raise InvalidRequest(
            f"give {url}, or --model, --engine, --decoder and --gate for a service of our own, "
            "not both",
            field="url",
        )
    flags: list[str] = []
    told: dict[str, Any] = {"notes": notes}
    if url is None:
        flags, known = _own_service(model, engine, decoder, gates)
        told = {"notes": [*notes, *_told_variables()], **known}
    with serving(*flags) if url is None else nullcontext(url) as address:
        report = asyncio.run(measure(Target.parse(address), plan, **told))
    click.echo(report_text(report))  # first: it costs nothing, and writing may fail
    if out:
        report.write(out)
    if report.failed:
        raise BenchmarkFailed(report.failed)


def _own_service(
    model: Path | None, engine: str, decoder: str, gates: Sequence[str]
) -> tuple[list[str], dict[str, Any]]:
    """Return the flags of a service of our own, and what its report tells of the model."""
    from bench.certificates import faults_of, gate_faults
    from bench.reports import told_model
    from sidestep.engines.load import load_engine
    from sidestep.model_folder import ModelFolder

    folder = ModelFolder.open(model).with_decoder(decoder)
    faults = gate_faults(folder, gates)
    name = load_engine(folder, engine).spec.name
    told = {"model": {**told_model(folder), "engine": name}}
    flags = ["--model", str(folder.path.absolute()), "--engine", engine, "--decoder", decoder]
    return flags, {**told, "invalid_because": [*faults, *faults_of(folder, name)]}


def _told_variables() -> list[str]:
    """Tell in a note which variables change our own service; paths and addresses by name alone."""
    known = [option for option in fields(Settings) if option.name not in FLAGGED]
    is_short = {variable(option.name): isinstance(option.default, int | tuple) for option in known}
    told = [
        f"{name}={os.environ[name]}" if short else name
        for name, short in is_short.items()
        if os.environ.get(name)
    ]
    return [f"The service had these variables: {', '.join(told)}."] * bool(told)


def _body(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise InvalidRequest(f"body is {text!r}; it must be a JSON object", field="body")
    return values
