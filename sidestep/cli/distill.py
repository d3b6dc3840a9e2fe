"""`sidestep distill`: SiD-LSG."""

from __future__ import annotations

from pathlib import Path

import click

from sidestep.cli.options import run_folder
from sidestep.errors import BackendUnavailable


@click.command()
@click.option("--teacher", type=click.Path(path_type=Path), required=True, help="Diffusers folder.")
@click.option("--prompts", type=click.Path(path_type=Path), required=True, help="One per line.")
@run_folder("runs/student")
@click.option(
    "--strategy",
    type=click.Choice(["none", "long", "short", "simplest", "lsg", "zero-cfg", "anti-cfg"]),
    default="lsg",
    show_default=True,
    help="Where classifier-free guidance enters.",
)
@click.option("--kappa", type=float, default=1.5, show_default=True, help="Guidance scale.")
@click.option("--iterations", type=click.IntRange(1), default=600, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True)
@click.option("--learning-rate", type=float, default=5e-5, show_default=True)
@click.option("--name", default="emoji", show_default=True, help="The model's name in its card.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--seed", type=int, default=0, show_default=True)
def command(
    teacher: Path,
    prompts: Path,
    out: Path,
    strategy: str,
    kappa: float,
    name: str,
    device: str,
    **settings: float,
) -> None:
    """Distil TEACHER into a generator that needs one network evaluation per picture.

    Writes OUT/model, and a grid of pictures at every checkpoint.

    \b
    On every core or GPU, each with its own rows of a batch:
      torchrun --nproc-per-node 2 -m sidestep distill --teacher DIR --prompts FILE
    """
    try:
        from distill.presets import strategy as guidance_of
        from distill.processes import current
        from distill.sid_lsg import DistillOptions
        from distill.student import distil_folder
    except ImportError as error:
        raise BackendUnavailable(error.name or "torch", "train") from error
    options = DistillOptions(
        guidance=guidance_of(strategy, kappa),
        iterations=int(settings["iterations"]),
        batch=int(settings["batch"]),
        learning_rate=settings["learning_rate"],
        seed=int(settings["seed"]),
    )
    folder = distil_folder(teacher, prompts, out, options, name=name, device=device)
    if current().writes:
        click.echo(folder.path)
