"""`sidestep data`: training sets."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def command() -> None:
    """Build a training set."""


@command.command()
@click.option("--out", type=click.Path(path_type=Path), default="data/emoji", show_default=True)
@click.option("--size", type=int, default=64, show_default=True, help="Pixels per side.")
def emoji(out: Path, size: int) -> None:
    """Fetch four emoji sets from npm, check them and render them on white.

    Finished files are kept: the same command again goes on where it stopped.
    """
    from distill.emoji_data import build

    sets = build(out, size_px=size)
    for emoji_set in sets:
        click.echo(f"{emoji_set.style:8} {len(emoji_set.names):6,} pictures")


@command.command()
@click.option(
    "--packages",
    type=click.Path(path_type=Path, file_okay=False),
    default="data/emoji/packages",
    show_default=True,
    help="Where the npm packages are kept.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="data/emoji-128.safetensors",
    show_default=True,
)
@click.option("--size", type=click.IntRange(16, 512), default=128, show_default=True)
def bundle(packages: Path, out: Path, size: int) -> None:
    """Put all icons, their names and synonyms into one file, for `sidestep train --budget`.

    Icons are stored with their opacity, so that training can recolour and compose them.
    """
    from distill.emoji_bundle import build_bundle

    build_bundle(packages, out, size_px=size)
    click.echo(f"{out}: {out.stat().st_size / 2**20:.1f} MiB")


@command.command()
@click.option(
    "--captions",
    type=click.Path(path_type=Path),
    required=True,
    help="annotations/captions_val2014.json of your copy.",
)
@click.option(
    "--images", type=click.Path(path_type=Path), required=True, help="val2014 of your copy."
)
@click.option("--out", type=click.Path(path_type=Path), default="data/coco", show_default=True)
@click.option("--count", type=click.IntRange(4), default=30_000, show_default=True)
def coco(captions: Path, images: Path, out: Path, count: int) -> None:
    """Prepare COCO-2014 val for `sidestep evaluate-coco`: crops of 256 pixels, COUNT captions.

    Nothing is downloaded. Finished pictures are kept: the same command goes on.
    """
    from bench.quality.coco import prepare

    click.echo(prepare(captions, images, out, count=count))
