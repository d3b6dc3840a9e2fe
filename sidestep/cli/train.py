"""`sidestep train`: the embedded model, or its teacher alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
from click.core import ParameterSource

from sidestep.cli.options import run_folder
from sidestep.errors import needing


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


BUDGETED = {"data", "out", "device", "budget", "minutes", "times", "default"}


@click.command()
@click.option(
    "--budget",
    type=click.Choice(["gpu", "cpu"]),
    help="Train the whole embedded model at 128 pixels, students and engines too, by the clock: "
    "gpu, under 25 minutes on an H100; cpu, under 8 hours on two cores, each with a process of "
    "its own. Takes only --data, --out, --device, --minutes, --times and --default.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    help="With --budget: stop after this long, saved; the same command goes on.",
)
@click.option(
    "--times",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="With --budget: multiply the time of every part.",
)
@click.option(
    "--default",
    type=float,
    metavar="KAPPA",
    help="With --budget: the student that becomes the model, the others stand beside it. Given "
    "after the training, it makes that last part anew.  [default: the budget's]",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default="data/emoji",
    show_default=True,
    help="Folder of `sidestep data emoji`, or the file of `sidestep data bundle` for --budget.",
)
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
@click.option("--device", help="cpu or cuda.  [default: cpu, or the budget's]")
@click.option("--seed", type=int, default=0, show_default=True)
@click.pass_context
def command(
    context: click.Context,
    /,
    data: Path,
    out: Path,
    start_from: Path | None,
    lighter: tuple[int, ...] | None,
    device: str | None,
    budget: str | None,
    minutes: float | None,
    times: float,
    default: float | None,
    **settings: float,
) -> None:
    """Train an autoencoder, then a text encoder and UNet, on `sidestep data`.

    Writes OUT/model (a teacher for `sidestep distill`) and OUT/prompts.txt; with --budget also
    OUT/student-KAPPA/model, ready to serve.

    \b
    sidestep data bundle --out data/emoji-128.safetensors
    sidestep train --budget gpu --data data/emoji-128.safetensors --out runs/emoji
    \b
    On every core, each with its own rows of a batch:
      torchrun --nproc-per-node 2 -m sidestep train --budget cpu --data FILE --out DIR
    """
    with needing("train"):
        from distill.autoencoder import AutoencoderOptions
        from distill.emoji_teacher import EmojiTeacherOptions, train_emoji_teacher
        from distill.processes import current
        from distill.teacher import TeacherOptions
    if budget is not None:
        _train_by_clock(context, budget)
        return
    if minutes is not None or times != 1 or default is not None:
        raise click.UsageError("--minutes, --times and --default need --budget")
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
    model = train_emoji_teacher(data, out, options, device=device or "cpu")
    if current().writes:
        click.echo(model)


def _train_by_clock(context: click.Context, name: str) -> None:
    """Train the whole embedded model; other options than the budget's are refused."""
    from distill.budgets import BUDGETS, shortened
    from distill.embedded import stop_after, train_embedded
    from distill.processes import current

    given = context.params
    unused = sorted(
        f"--{option.replace('_', '-')}"
        for option in set(given) - BUDGETED
        if context.get_parameter_source(option) is ParameterSource.COMMANDLINE
    )
    if unused:
        raise click.UsageError(f"--budget sets {', '.join(unused)} itself")
    by_default = context.get_parameter_source("data") is ParameterSource.DEFAULT
    data = Path("data/emoji-128.safetensors") if by_default else given["data"]
    budget = shortened(BUDGETS[name], given["times"])
    if (default := given["default"]) is not None:
        if default not in budget.kappas:
            kappas = ", ".join(f"{kappa:g}" for kappa in budget.kappas)
            raise click.UsageError(f"--default {default:g} is no student; there are {kappas}")
        budget = replace(budget, default=default)
    if current().writes:
        minutes = f"{budget.seconds / 60:.1f} minutes of training"
        click.echo(f"{name}: {budget.about}; {minutes}", err=True)
    with stop_after(given["minutes"]):
        device = given["device"] or budget.device
        for folder in train_embedded(data, given["out"], budget, device=device):
            if current().writes:
                click.echo(folder.path)
