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
