"""`sidestep distill`: SiD-LSG."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from distill.guidance import STRATEGIES, Guidance, strategy
from distill.options import DistillOptions
from distill.presets import PRESETS, describe
from distill.settings import declared
from sidestep.cli.options import run_folder, settings_of
from sidestep.errors import BackendUnavailable


@click.command(epilog=f"\b\nPresets; a flag beats its preset:\n{describe()}")
@click.option(
    "--preset", type=click.Choice(list(PRESETS)), default="emoji", show_default=True,
    help="Recipe that sets everything below.",
)  # fmt: skip
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
@click.option("--strategy", type=click.Choice(STRATEGIES), help="Where guidance enters.")
@click.option("--kappa", type=float, help="Guidance scale of the strategy.")
@click.option("--kappa1", type=float, help="Of the fake score while it is trained.")
@click.option("--kappa2", type=float, help="Of the fake score in the loss's first factor.")
@click.option("--kappa3", type=float, help="Of the fake score in the loss's second factor.")
@click.option("--kappa4", type=float, help="Of the teacher.")
@click.option("--alpha", type=float, help="Of the loss, section 3.2.")
@settings_of(DistillOptions)
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
    try:
        from distill.hub import teacher_folder
        from distill.plan import describe_plan
        from distill.processes import current
        from distill.prompts import read_prompts
        from distill.student import distil_folder
    except ImportError as error:
        raise BackendUnavailable(error.name or "torch", "train") from error
    recipe = PRESETS[preset].options
    chosen = {key: given[key] for key in declared(DistillOptions) if given[key] is not None}
    options = replace(recipe, guidance=_guidance(recipe.guidance, given), **chosen)
    read = read_prompts(prompts, column=given["prompts_column"], exclude=given["exclude"])
    folder = teacher_folder(teacher)
    if current().writes:
        click.echo(read, err=True)
    if given["dry_run"]:
        click.echo(describe_plan(folder, len(read.texts), options))
        return
    model = distil_folder(folder, read.texts, out, options, name=name or preset, device=device)
    if current().writes:
        click.echo(model.path)


def _guidance(preset: Guidance, given: dict[str, Any]) -> Guidance:
    """Take the preset's guidance, then --strategy and --kappa, then each scale by itself."""
    guidance = preset
    if given["strategy"] is not None or given["kappa"] is not None:
        kappa = preset.kappa4 if given["kappa"] is None else given["kappa"]
        guidance = strategy(given["strategy"] or "lsg", kappa)
    scales = ("kappa1", "kappa2", "kappa3", "kappa4", "alpha")
    return replace(guidance, **{key: given[key] for key in scales if given[key] is not None})
