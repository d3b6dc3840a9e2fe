"""`sidestep bench batching`."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import click

from sidestep.cli.options import REPORT_OUT
from sidestep.engines.load import ENGINES
from sidestep.errors import BenchmarkFailed


@click.command()
@click.option(
    "--engine",
    type=click.Choice(list(ENGINES)),
    default="auto",
    show_default=True,
    help="What draws in both; fake takes 20 + 2n ms for n pictures and sleeps meanwhile.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=6,
    show_default=True,
    help="Turns of both at each load; percentiles and ratios need 6.",
)
@click.option(
    "--seconds", type=click.FloatRange(0.1), default=4.0, show_default=True, help="Of each turn."
)
@REPORT_OUT
def command(engine: str, rounds: int, seconds: float, out: Path | None) -> None:
    """Load the service and the same generator behind BentoML's adaptive batching, by turns.

    One caller, Poisson arrivals at 25, 50 and 80% of what the engine alone draws, and 32 callers;
    beside the open loops what waiting in a queue costs at least. On this machine, on which the load
    generator runs too. About four minutes.

    Exit code 1 if one of them fails in mid-run; what was measured is reported all the same.
    """
    from bench.bare_engine import BareEngine
    from bench.batching import Plan, both, measure
    from bench.markdown import report_text

    plan = Plan(rounds, seconds, tell=partial(click.echo, err=True))
    plan.tell("time the engine alone")
    bare = BareEngine.measure(engine)
    with both(engine) as services:
        report = asyncio.run(measure(services, bare, plan))
    click.echo(report_text(report))  # first: it costs nothing, and writing may fail
    if out:
        report.write(out)
    if report.failed:
        raise BenchmarkFailed(report.failed)
