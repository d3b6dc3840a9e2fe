"""`sidestep train`: the embedded model's teacher."""

from __future__ import annotations

from pathlib import Path

import click

from sidestep.cli.options import run_folder
from sidestep.errors import BackendUnavailable


def _channels(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        channels = tuple(int(part) for part in text.split(","))
    except ValueError:
        channels = ()
    if len(channels) < 2 or any(count % 8 or not 8 <= count <= 1024 for count in channels):
        raise click.BadParameter(
            "give two or more multiples of 8 up to 1024, such as 16,32,32", context, parameter
        )
    return channels


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default="data/emoji", show_default=True)
@run_folder("runs/teacher")
@click.option("--autoencoder-steps", type=click.IntRange(1), default=2500, show_default=True)
@click.option("--steps", type=click.IntRange(1), default=5000, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=64, show_default=True)
@click.option("--learning-rate", type=float, default=1e-3, show_default=True)
@click.option(
    "--start-from",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Model whose tokenizer and autoencoder are reused and whose teacher is trained on.",
)
@click.option(
    "--lighter",
    metavar="C,C,C",
    callback=_channels,
    help="Channels, finest level first, of a lighter autoencoder with the same latents, which "
    "replaces the first at the end: 16,32,32 decodes in a third of the time.",
)
@click.option("--size", type=int, default=64, show_default=True, help="Pixels per side.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--seed", type=int, default=0, show_default=True)
def command(
    data: Path,
    out: Path,
    start_from: Path | None,
    lighter: tuple[int, ...] | None,
    device: str,
    **settings: float,
) -> None:
    """Train an autoencoder, then a text encoder and UNet, on `sidestep data emoji`.

    Writes OUT/model (a teacher for `sidestep distill`) and OUT/prompts.txt.

    \b
    On every core, each with its own rows of a batch (on 2 cores 1.4 times as fast):
      torchrun --nproc-per-node 2 -m sidestep train --data DIR --out DIR
    """
    try:
        from distill.autoencoder import AutoencoderOptions
        from distill.emoji_teacher import EmojiTeacherOptions, train_emoji_teacher
        from distill.processes import current
        from distill.teacher import TeacherOptions
    except ImportError as error:
        raise BackendUnavailable(error.name or "torch", "train") from error
    seed = int(settings["seed"])
    options = EmojiTeacherOptions(
        autoencoder=AutoencoderOptions(steps=int(settings["autoencoder_steps"]), seed=seed),
        teacher=TeacherOptions(
            steps=int(settings["steps"]),
            batch=int(settings["batch"]),
            learning_rate=settings["learning_rate"],
            seed=seed,
        ),
        size_px=int(settings["size"]),
        start_from=start_from,
        lighter=AutoencoderOptions(
            channels=lighter,
            steps=int(settings["autoencoder_steps"]),
            batch=32,
            learning_rate=2e-3,
            seed=seed,
        )
        if lighter
        else None,
    )
    model = train_emoji_teacher(data, out, options, device=device)
    if current().writes:
        click.echo(model)
