"""`sidestep evaluate`: how good a model is."""

from __future__ import annotations

from pathlib import Path

import click

from sidestep.engines.load import ENGINES
from sidestep.errors import needing
from sidestep.model_folder import ModelFolder


@click.command()
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option(
    "--images",
    type=click.IntRange(4),
    default=1000,
    show_default=True,
    help="Pictures that are compared with the real ones.",
)
@click.option("--engine", type=click.Choice(list(ENGINES)), default="auto", show_default=True)
@click.option(
    "--teacher/--no-teacher", default=True, help="Draw with the teacher too: 50 DDIM steps."
)
@click.option(
    "--guidance",
    type=click.FloatRange(0, 100),
    help="The teacher's.  [default: the best of 1.5, 2, 3, 4.5]",
)
@click.option(
    "--held-out",
    type=click.Path(path_type=Path),
    help="Prompts that the model was not trained on, one per line.  [default: MODEL/held-out.txt, "
    "else names in styles that they do not have]",
)
@click.option(
    "--judge", type=click.Path(path_type=Path), help="Folder.  [default: the shipped one]"
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of `sidestep data emoji`, or the file of `sidestep data bundle`, to show the "
    "training pictures nearest to 16 samples.",
)
@click.option("--out", type=click.Path(path_type=Path), default="runs/quality", show_default=True)
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    default="runs/pictures",
    show_default=True,
    help="Where drawn pictures are kept, so that none is drawn twice; may be deleted.",
)
def command(
    model: Path | None,
    images: int,
    engine: str,
    teacher: bool,
    guidance: float | None,
    held_out: Path | None,
    judge: Path | None,
    data: Path | None,
    out: Path,
    store: Path,
) -> None:
    """Judge MODEL's pictures of emoji beside its teacher's and real ones.

    Nothing is downloaded: the judge and the features of the real pictures come with sidestep.
    Writes OUT/quality.md, quality.json and samples.png; a stopped run goes on where it was.
    """
    with needing("eval"):
        from bench.quality.evaluate import EvaluateOptions, evaluate
        from bench.quality.report import write_report
        from bench.reports import told_command
    options = EvaluateOptions(images, engine, teacher, guidance, held_out, judge)
    real = None
    if data is not None:
        from bench.quality.judge import Reference
        from bench.quality.judge_data import in_order_of, label
        from distill.emoji_bundle import read_sets

        sets = read_sets(data, size_px=ModelFolder.open(model).card.image_size[0])
        real = in_order_of(Reference.load(judge), label(sets))
    quality = evaluate(model, store, options)
    path = write_report(quality, out, command=told_command(), real=real)
    click.echo(path.read_text(encoding="utf-8"))
