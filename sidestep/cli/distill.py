"""`sidestep distill`: SiD-LSG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from distill.presets import describe
from sidestep.cli.options import run_folder
from sidestep.cli.recipes import PRESET, recipe_flags, recipe_of
from sidestep.errors import needing


@click.command(epilog=f"\b\nPresets; a flag beats its preset:\n{describe()}")
@PRESET
@click.option("--teacher", required=True, metavar="DIR|HUB_ID", help="Stable-Diffusion-like model.")
@click.option(
    "--prompts",
    type=click.Path(path_type=Path),
    required=True,
    help="Training prompts: .txt (one per line), .tar of such, .csv or .parquet; or .gz of it.",
)
@click.option(
    "--prompts-column", metavar="NAME", help="Column of a table; prompt, caption or text."
)
@click.option(
    "--exclude",
    type=click.Path(path_type=Path),
    help="Captions that must not be trained on, such as those of an evaluation.",
)
@run_folder("runs/student")
@recipe_flags
@click.option("--name", help="The model's name in its card.  [default: the preset's]")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--dry-run", is_flag=True, help="Print the resolved settings and the memory needed.")
def command(
    preset: str, teacher: str, prompts: Path, out: Path, name: str | None, device: str, **given: Any
) -> None:
    """Distil TEACHER into a generator that needs one network evaluation per picture, or --steps.

    Writes OUT/model; at every checkpoint also a grid of pictures. Ctrl-C saves and stops; the same
    command goes on. OUT/log.jsonl holds the losses, `tensorboard --logdir OUT` draws them.

    \b
    On every core or GPU, each with its own rows of a batch:
      torchrun --nproc-per-node 8 -m sidestep distill --preset sd15 --device cuda \\
        --teacher DIR --prompts prompts.txt
    """
    with needing("train"):
        from distill.hub import teacher_folder
        from distill.plan import describe_plan
        from distill.processes import current
        from distill.prompts import read_prompts
        from distill.student import distil_folder
    options = recipe_of(preset, given)
    read = read_prompts(prompts, column=given["prompts_column"], exclude=given["exclude"])
    folder = teacher_folder(teacher, weights=not given["dry_run"])
    if current().writes:
        click.echo(read, err=True)
    if given["dry_run"]:
        if current().writes:
            click.echo(describe_plan(folder, len(read.texts), options))
        return
    model = distil_folder(folder, read.texts, out, options, name=name or preset, device=device)
    if current().writes:
        click.echo(model.path)
