"""`sidestep train-judge`: the small CLIP that judges pictures of emoji."""

from __future__ import annotations

from pathlib import Path

import click

from sidestep.cli.options import run_folder
from sidestep.errors import InvalidRequest, needing


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default="data/emoji",
    show_default=True,
    help="Folder of `sidestep data emoji`, or the file of `sidestep data bundle`, of which it also "
    "learns recoloured icons and pairs.",
)
@run_folder("runs/judge")
@click.option("--steps", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--batch", type=click.IntRange(8, 2048), default=128, show_default=True)
@click.option(
    "--size",
    type=click.IntRange(32, 512),
    default=64,
    show_default=True,
    help="Pixels per side that it sees, a multiple of 32: what larger pictures have besides is "
    "lost on it. A step takes 2.4 times as long at 128.",
)
@click.option("--seed", type=int, default=0, show_default=True)
def command(data: Path, out: Path, steps: int, batch: int, size: int, seed: int) -> None:
    """Train a judge of emoji, on one CPU core, and write OUT/judge.

    A twentieth of the pictures is left out; the last lines tell how often the right name of all
    names is among the first five for those, and whether it ranks real pictures before blurred ones
    and noise.
    """
    with needing("eval"):
        from bench.quality.judge_sets import read_labelled
        from bench.quality.judge_training import JudgeOptions, train_judge
        from bench.quality.ranking import Ranking
    if size % 32:
        raise InvalidRequest(f"size is {size}; it must be a multiple of 32", field="size")
    options = JudgeOptions(steps=steps, batch=batch, size_px=size, seed=seed)
    icons, made = read_labelled(data, size_px=options.size_px)
    judged = train_judge(icons, out, out / "judge", options, made)
    told, ranking = judged["measured"], Ranking(**judged["ranking"])
    click.echo(
        f"{out / 'judge'}: of {told['test_pictures']} pictures left out, the right name of "
        f"{told['names']:,} comes first for {told['top1']:.0%}, in the first five for "
        f"{told['top5']:.0%}"
    )
    click.echo(
        f"Fréchet distances of {ranking.pictures:,} pictures: real {ranking.real:.4f}, blurred "
        f"{ranking.blurred:.4f}, noise {ranking.noise:.4f}: "
        + ("ranked as they must be" if ranking.holds() else "NOT ranked as they must be")
    )
