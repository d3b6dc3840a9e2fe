"""`sidestep evaluate-coco`: the paper's protocol."""

from __future__ import annotations

from pathlib import Path

import click

from sidestep.cli.options import ENGINE
from sidestep.errors import needing


@click.command()
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option(
    "--coco",
    type=click.Path(path_type=Path),
    default="data/coco",
    show_default=True,
    help="Folder of `sidestep data coco`.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="runs/coco",
    show_default=True,
    help="OUT/pictures keeps what is drawn; the same command goes on.",
)
@click.option("--batch", type=click.IntRange(1, 1024), default=16, show_default=True)
@ENGINE
@click.option(
    "--inception",
    type=click.Path(path_type=Path),
    help="File of torch-fidelity's Inception weights.  [default: downloaded once]",
)
@click.option(
    "--clip-model", default="ViT-g-14", show_default=True, help="Any model's name in open_clip."
)
@click.option(
    "--clip-weights",
    default="laion2b_s12b_b42k",
    show_default=True,
    help="Their tag in open_clip, downloaded once, or a file.",
)
@click.option("--hps", is_flag=True, help="HPSv2 too, by the hpsv2 package.")
@click.option("--device", default="cpu", show_default=True, help="Of the networks that judge.")
@click.option(
    "--beside",
    type=click.Choice(["sd15", "sd21-base"]),
    default="sd15",
    show_default=True,
    help="Whose published results stand in the table.",
)
def command(
    model: Path | None,
    coco: Path,
    out: Path,
    batch: int,
    engine: str,
    inception: Path | None,
    clip_model: str,
    clip_weights: str,
    hps: bool,
    device: str,
    beside: str,
) -> None:
    """Draw COCO's captions with MODEL, caption i with seed i, and score the pictures.

    FID, precision and recall against COCO-2014 val, CLIP score, beside the paper's tables, in
    OUT/paper.md and paper.json.

    \b
    Drawn on every GPU, scored by the first process:
      torchrun --nproc-per-node 8 -m sidestep evaluate-coco MODEL --device cuda
    """
    with needing("eval"):
        from bench.quality.extractors import Inception, OpenClip
        from bench.quality.paper_report import CocoOptions, evaluate_coco
        from bench.quality.preference import HumanPreference, load_hpsv2
        from bench.reports import told_command
        from distill.processes import training_device
    from sidestep.series import use_own_gpu

    use_own_gpu()
    if hps:
        load_hpsv2()  # so that every process refuses where it is missing
    options = CocoOptions(model, coco, out, engine, batch, beside, told_command())

    def extractors() -> tuple[Inception, OpenClip]:
        where = str(training_device(device).type)
        return Inception(inception, device=where), OpenClip(clip_model, clip_weights, device=where)

    table = evaluate_coco(options, extractors, HumanPreference if hps else None)
    if table:
        click.echo(table)
