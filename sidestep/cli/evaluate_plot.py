"""`sidestep evaluate-plot`: results of several models in one plot."""

from __future__ import annotations

from pathlib import Path

import click

from sidestep.errors import BackendUnavailable


@click.command()
@click.argument("results", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default="runs/fid-against-clip.png",
    show_default=True,
    help="A .png file.",
)
@click.option(
    "--beside",
    type=click.Choice(["sd15", "sd21-base"]),
    help="Draw the paper's published results too, beside those of evaluate-coco.",
)
def command(results: tuple[Path, ...], out: Path, beside: str | None) -> None:
    """Plot FID against CLIP score over κ, of RESULTS: quality.json or paper.json, one a model.

    \b
    sidestep evaluate-plot runs/*/quality/quality.json -o over-kappa.png

    All must be of one judge and as many pictures. Needs sidestep[plots].
    """
    try:
        from bench.plots import fid_against_clip
        from bench.quality.against_clip import published_points, read_points
    except ImportError as error:
        raise BackendUnavailable(error.name or "open_clip", "eval") from error
    points = read_points(results)
    if beside:
        if any(point["name"] != "measured here" for point in points):
            raise click.UsageError("--beside is for paper.json; quality.json has another judge")
        points += published_points(beside)
    fid_against_clip(points, out)
    click.echo(out)
