"""`sidestep bench distill`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from distill.options import DistillOptions
from distill.presets import PRESETS
from distill.settings import declared
from sidestep.cli.options import REPORT_OUT, settings_of
from sidestep.errors import BenchmarkFailed, needing

PASSES = 8  # of a device in each update, where a preset has many more
SETTINGS = ("batch", "per_device_batch", "ema_half_life", "precision", "recompute", "compile")


@click.command()
@click.option(
    "--preset", type=click.Choice(list(PRESETS)), default="emoji", show_default=True,
    help="Recipe that is measured.",
)  # fmt: skip
@click.option(
    "--teacher",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Whose size is measured; `sidestep new` makes one of random weights.  "
    "[default: the embedded model's]",
)
@settings_of(DistillOptions, SETTINGS)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option(
    "--steps", type=click.IntRange(1), default=3, show_default=True, help="Updates that count."
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Turns of all cases; ratios to the authors' way need 6.",
)
@click.option(
    "--threads", type=click.IntRange(0), default=0, help="Of a CPU.  [default: PyTorch's]"
)
@click.option(
    "--against-authors",
    is_flag=True,
    help="Also in the authors' way, whole and with one of its costs mended at a time.",
)
@REPORT_OUT
def command(
    preset: str,
    teacher: Path | None,
    device: str,
    steps: int,
    rounds: int,
    threads: int,
    against_authors: bool,
    out: Path | None,
    **given: Any,
) -> None:
    """Measure a distillation: images/s, memory and the share of this machine's measured peak.

    \b
    sidestep bench distill --against-authors
    sidestep new --arch sd15 --random --out sd15
    sidestep bench distill --preset sd15 --teacher sd15 --device cuda

    Exit code 1 if a case fails, as without enough memory; the others are reported all the same.
    """
    with needing("train"):
        from bench.distillation import Task, measure
        from bench.markdown import report_text
        from sidestep.model_folder import find_model
    options = PRESETS[preset].options
    chosen = {key: given[key] for key in declared(DistillOptions) if given.get(key) is not None}
    at_once = chosen.get("per_device_batch", options.per_device_batch)
    if "batch" not in chosen and at_once:
        chosen["batch"] = min(options.batch, PASSES * at_once)
    task = Task(
        teacher or find_model(),
        replace(options, **chosen),
        device,
        steps=steps,
        threads=threads,
    )
    report = measure(task, compare=against_authors, rounds=rounds).report()
    click.echo(report_text(report))  # first: it costs nothing, and writing may fail
    if out:
        report.write(out)
    if report.failed:
        raise BenchmarkFailed(report.failed)
