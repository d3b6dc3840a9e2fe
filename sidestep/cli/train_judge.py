"""`sidestep train-judge`: the small CLIP that judges pictures of emoji."""

from __future__ import annotations

from pathlib import Path

import click

from sidestep.cli.options import run_folder
from sidestep.errors import BackendUnavailable


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default="data/emoji", show_default=True)
@run_folder("runs/judge")
@click.option("--steps", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--batch", type=click.IntRange(8, 2048), default=128, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def command(data: Path, out: Path, steps: int, batch: int, seed: int) -> None:
    """Train a judge on `sidestep data emoji`, on one CPU core, and write OUT/judge.

    A twentieth of the pictures is left out; the last line tells how often the right name of all
    names is among the first five for those.
    """
    try:
        from bench.quality.judge_data import label
        from bench.quality.judge_training import JudgeOptions, train_judge
    except ImportError as error:
        raise BackendUnavailable(error.name or "open_clip", "eval") from error
    from distill.emoji_data import load

    options = JudgeOptions(steps=steps, batch=batch, seed=seed)
    told = train_judge(label(load(data)), out, out / "judge", options)["measured"]
    click.echo(
        f"{out / 'judge'}: of {told['test_pictures']} pictures left out, the right name of "
        f"{told['names']:,} comes first for {told['top1']:.0%}, in the first five for "
        f"{told['top5']:.0%}"
    )
