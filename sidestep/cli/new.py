"""`sidestep new`: a model folder with random weights."""

from __future__ import annotations

from pathlib import Path

import click

from sidestep.errors import needing


@click.command()
@click.option(
    "--arch",
    type=click.Choice(["sd15", "sd21-base", "sd21"]),
    required=True,
    help="Stable Diffusion 1.5, 2.1-base (512 pixels) or 2.1 (768 pixels, v-prediction).",
)
@click.option(
    "--random",
    is_flag=True,
    required=True,
    expose_value=False,
    help="Draw the weights; there is no other way yet, so it must be said.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder.")
@click.option(
    "--precision",
    type=click.Choice(["fp16", "fp32"]),
    default="fp16",
    show_default=True,
    help="Of the files: 2.1 or 4.3 GB for sd15.",
)
@click.option(
    "--shrink",
    type=click.Choice(["1", "2", "4", "8"]),
    default="1",
    show_default=True,
    help="Divide every width, for a quick trial: the same blocks, layers and heads.",
)
@click.option(
    "--size",
    type=click.IntRange(64, 1024),
    help="Pixels per side, a multiple of 64.  [default: the architecture's]",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def command(
    arch: str,
    out: Path,
    precision: str,
    shrink: str,
    size: int | None,
    seed: int,
) -> None:
    """Make a model of full size with random weights.

    Cost does not depend on values: the folder can be exported, served, measured and distilled
    as a trained one, and draws nothing of meaning. Its tokenizer has CLIP's layout and size, not
    CLIP's ids. At most one network is in memory.
    """
    if size and size % 64:
        raise click.BadParameter(f"{size} is not a multiple of 64", param_hint="--size")
    with needing("train"):
        from distill.random_model import new_random_model
    folder = new_random_model(
        arch, out, precision=precision, shrink=int(shrink), size_px=size, seed=seed
    )
    click.echo(folder.path)
