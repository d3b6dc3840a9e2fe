"""`sidestep bench report`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="A .md file.")
@click.option(
    "--plots/--no-plots",
    default=True,
    show_default=True,
    help="Draw the plots beside the reports too; needs sidestep[plots].",
)
def command(source: Path, out: Path, plots: bool) -> None:
    """Make one page of SOURCE, a folder of reports, with a plot for each.

    SOURCE may also be a training's log.jsonl: then OUT is a .png with its curves.
    """
    if source.suffix == ".jsonl":
        from bench.plots import training_curves

        training_curves(source, out)
    else:
        from bench.page import write_page

        write_page(source, out, plots=plots)
    click.echo(out)
