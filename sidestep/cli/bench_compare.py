"""`sidestep bench compare`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option(
    "--even-if-different",
    is_flag=True,
    help="Compare reports of different models, prompts, promises or machines too, and say so.",
)
def command(before: Path, after: Path, even_if_different: bool) -> None:
    """Tell how many times as long the rows of AFTER take as those of BEFORE.

    Both are reports of `sidestep bench engine`, or both of `bench http`. Ratios are of medians,
    with 95% bootstrap intervals. Where both searched for the largest rate at which the promise is
    kept, what they found is compared too.
    """
    from bench.compare import compare
    from bench.reports import Report

    reports = [Report.read(path) for path in (before, after)]
    click.echo(compare(*reports, even_if_different=even_if_different))
