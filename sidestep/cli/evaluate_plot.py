"""`sidestep evaluate-plot`: results of several models in one plot."""

from __future__ import annotations

from pathlib import Path

import click

from sidestep.errors import needing


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

    Prints them too, and which model of yours to choose: the one at the least distance whose CLIP
    score is within 0.005 of the best.

    All must be of one judge and as many pictures. Needs sidestep[plots].
    """
    with needing("eval"):
        from bench.plots import fid_against_clip
        from bench.quality.against_clip import nearest_that_fits, published_points, read_points
    points = read_points(results)
    best = nearest_that_fits(points)
    if beside:
        if any(point["name"] != "measured here" for point in points):
            raise click.UsageError("--beside is for paper.json; quality.json has another judge")
        points += published_points(beside)
    fid_against_clip(points, out)
    for point in points:
        told = [f"{point[key]:.4f}" if point[key] is not None else "-" for key in ("fid", "clip")]
        chosen = "  <- the nearest of those whose CLIP score is almost the best"
        click.echo(
            f"{point['name']:16} {point['label']:20} {told[0]:>8} {told[1]:>7}"
            f"{chosen if point is best else ''}"
        )
    click.echo(out)
