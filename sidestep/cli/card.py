"""`sidestep card`: a model's sample grid and README."""

from __future__ import annotations

from pathlib import Path

import click

from sidestep.errors import BackendUnavailable


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), default="data/emoji", show_default=True)
@click.option(
    "--guidance",
    type=float,
    help="The teacher's guidance scale.  [default: measured on 64 names of --data]",
)
def command(model: Path, data: Path, guidance: float | None) -> None:
    """Write MODEL/README.md and MODEL/samples.png from what was measured.

    Without --guidance, the teacher draws 64 names at several scales, and the one nearest to the
    real pictures is its best.
    """
    try:
        from distill import emoji_data
        from distill.guidance_search import best_scale
        from distill.model_card import write_model_card
    except ImportError as error:
        raise BackendUnavailable(error.name or "torch", "train") from error
    from sidestep.model_folder import ModelFolder

    folder = ModelFolder.open(model)
    if guidance is None:
        sets = emoji_data.load(data, size_px=folder.card.image_size[0])
        shared = sorted(set.intersection(*(set(part.names) for part in sets)))
        measured = best_scale(model, sets, shared[:: max(1, len(shared) // 64)][:64])
        for scale, distance in measured.items():
            click.echo(f"guidance {scale:<4g} distance to the real pictures {distance:.1f}/255")
        guidance = next(iter(measured))
    click.echo(write_model_card(folder, guidance_scale=guidance))
