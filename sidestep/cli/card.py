"""`sidestep card`: a model's sample grid and README."""

from __future__ import annotations

from pathlib import Path

import click

from sidestep.cli.options import refuse_idle
from sidestep.errors import needing


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--quality",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="quality.json of `sidestep evaluate`, or paper.json of `sidestep evaluate-coco`.",
)
@click.option(
    "--latency",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A report of `sidestep bench engine`.",
)
@click.option(
    "--ablation",
    "ablations",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A report of `sidestep bench ablation`, copied into MODEL; several may be given.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of `sidestep data emoji`, or the file of `sidestep data bundle`, to count how "
    "many captions are recognised.",
)
@click.option(
    "--teacher/--no-teacher",
    default=None,
    help="Draw with the teacher too, in 50 steps.  [default: where its best guidance is known]",
)
@click.option(
    "--guidance",
    type=float,
    help="With --data: the teacher's guidance scale.  [default: the best of several]",
)
@click.option(
    "--captions",
    "count",
    type=click.IntRange(1),
    default=128,
    show_default=True,
    help="With --data: how many captions student and teacher are measured on.",
)
def command(
    model: Path,
    quality: Path | None,
    latency: Path | None,
    ablations: tuple[Path, ...],
    data: Path | None,
    teacher: bool | None,
    guidance: float | None,
    count: int,
) -> None:
    """Draw MODEL's samples, and write MODEL/README.md with what was measured.

    Figures stay in the card: what is not measured again is told as before. With --data, a picture
    counts as recognised if the real picture nearest to it bears its caption.
    """
    if data is None:
        refuse_idle({"guidance": "--guidance", "count": "--captions"}, "--data")
    with needing("train"):
        from sidestep.pipeline.measured import gather
        from sidestep.pipeline.model_card import write_model_card
    from sidestep.model_folder import ModelFolder

    folder = gather(ModelFolder.open(model), *filter(None, (quality, latency)), *ablations)
    if data is not None:
        from distill.emoji_bundle import read_sets
        from distill.measure import SCALES, measure

        sets = read_sets(data, size_px=folder.card.image_size[0])
        scales = SCALES if guidance is None else (guidance,)
        folder = measure(folder, sets, scales, count=count)
    click.echo(write_model_card(folder, teacher=teacher))
