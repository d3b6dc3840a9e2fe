"""`sidestep bench engine`."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import click

from sidestep.cli.options import DECODER, GATE, REPORT_OUT
from sidestep.engines.load import ENGINES
from sidestep.errors import BenchmarkFailed, InvalidRequest

PEERS = ("diffusers", "torch-compile", "optimum")


@click.command()
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option(
    "--engine",
    "engines",
    type=click.Choice(list(ENGINES)),
    multiple=True,
    default=("auto",),
    show_default=True,
    help="What runs the model; several may be given, the first is what others are compared with.",
)
@DECODER
@click.option("--batches", default="1,2,4,8,16", show_default=True, help="Batch sizes.")
@click.option(
    "--against",
    default="",
    help="Others that draw with the same weights, separated by commas: " + ", ".join(PEERS) + ".",
)
@click.option(
    "--python",
    "pythons",
    multiple=True,
    metavar="PEER=PYTHON",
    help="The interpreter of a peer whose packages have an environment of their own.",
)
@click.option(
    "--calls",
    type=click.IntRange(1),
    default=400,
    show_default=True,
    help="Timed calls of each engine and batch size; p99 needs 368, p95 72, the median 6.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1),
    default=20.0,
    show_default=True,
    help="Time for those calls; it wins.",
)
@GATE
@click.option(
    "--peak/--no-peak", default=True, help="Measure the machine's peak and count operations."
)
@click.option("--note", "notes", multiple=True, help="What a reader of the report should know.")
@REPORT_OUT
def command(
    model: Path | None,
    engines: tuple[str, ...],
    decoder: str,
    batches: str,
    against: str,
    pythons: tuple[str, ...],
    calls: int,
    seconds: float,
    gates: tuple[str, ...],
    peak: bool,
    notes: tuple[str, ...],
    out: Path | None,
) -> None:
    """Measure MODEL (default: the embedded one) in its engines, from prompts to pixels.

    Each engine and each peer is a process of its own; their blocks of calls alternate. A call
    takes prompts and noise and ends when the pixels are in host memory, so a GPU has finished.
    Weights may be random (`sidestep new`): cost does not depend on them.

    Exit code 1 if a contender fails in mid-run; what was measured is reported all the same.
    """
    from bench.contender import Entry
    from bench.engine import Plan, measure
    from bench.markdown import report_text
    from sidestep.model_folder import ModelFolder

    interpreters = dict(_pair(text) for text in pythons)
    peers = [name for name in against.split(",") if name]
    if unknown := sorted({*peers, *interpreters} - set(PEERS)):
        raise InvalidRequest(
            f"{unknown[0]!r} is no peer; there are {', '.join(PEERS)}", field="against"
        )
    entries = [Entry(f"engine:{name}") for name in engines]
    entries += [Entry(name, *filter(None, [interpreters.get(name)])) for name in peers]
    plan = Plan(
        batches=_batches(batches),
        calls=calls,
        seconds=seconds,
        peak_s=1.0 if peak else 0.0,
        gates=gates,
        notes=notes,
        tell=partial(click.echo, err=True),
    )
    report = measure(ModelFolder.open(model).with_decoder(decoder), entries, plan)
    click.echo(report_text(report))  # first: it costs nothing, and writing may fail
    if out:
        report.write(out)
    if report.failed:
        raise BenchmarkFailed(report.failed)


def _batches(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or not all(1 <= size <= 256 for size in sizes):
        raise InvalidRequest(
            f"batches are {text!r}; they must be sizes of 1 to 256, such as 1,2,4", field="batches"
        )
    return tuple(dict.fromkeys(sizes))  # a second turn of one size would be compared with the first


def _pair(text: str) -> tuple[str, str]:
    peer, equals, python = text.partition("=")
    if not equals or shutil.which(python) is None:
        raise InvalidRequest(
            f"python is {text!r}; it must be PEER=PYTHON, such as optimum=.venv-optimum/bin/python",
            field="python",
        )
    return peer, python
