"""`sidestep card`: a model's sample grid and README."""

from __future__ import annotations

from pathlib import Path

import click

from sidestep.errors import BackendUnavailable


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), default="data/emoji", show_default=True)
@click.option(
    "--guidance", type=float, help="The teacher's guidance scale.  [default: the best of several]"
)
@click.option(
    "--captions",
    "count",
    type=click.IntRange(1),
    default=128,
    show_default=True,
    help="How many captions student and teacher are measured on.",
)
def command(model: Path, data: Path, guidance: float | None, count: int) -> None:
    """Measure MODEL and its teacher, and write MODEL/README.md and MODEL/samples.png.

    A picture counts as recognised if the real picture nearest to it bears its caption. Without
    --guidance, the scale at which most of the teacher's are recognised is its best.
    """
    try:
        from distill.emoji_bundle import read_sets
        from distill.measure import SCALES, measure
        from sidestep.pipeline.model_card import write_model_card
    except ImportError as error:
        raise BackendUnavailable(error.name or "torch", "train") from error
    from sidestep.model_folder import ModelFolder

    folder = ModelFolder.open(model)
    sets = read_sets(data, size_px=folder.card.image_size[0])
    scales = SCALES if guidance is None else (guidance,)
    folder = measure(folder, sets, scales, count=count)
    for key, value in folder.card.quality.items():
        click.echo(f"{key}: {value}")
    click.echo(write_model_card(folder))
