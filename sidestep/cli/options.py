"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import click

from distill.settings import declared, option_of
from sidestep.engines.load import ENGINES
from sidestep.model_folder import DECODERS

MODEL = click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="Model folder, or an embedded model's name.  [default: SIDESTEP_MODEL, else emoji]",
)
ENGINE = click.option(
    "--engine",
    type=click.Choice(list(ENGINES)),
    default="auto",
    show_default=True,
    help="What runs the model; auto takes the fastest that works here.",
)
DECODER = click.option(
    "--decoder",
    type=click.Choice(DECODERS),
    default="full",
    show_default=True,
    help="small: the lighter decoder that `sidestep distill-decoder` gave the model.",
)
KEY = click.option(
    "--key", envvar="SIDESTEP_KEY", show_envvar=True, help="API key, where the service wants one."
)
SEED = click.option("--seed", type=int, help="Seed of the first picture; drawn if absent.")


def run_folder(default: str) -> Callable[[Any], Any]:
    """Return the `--out` option of a training command; running the command again resumes there."""
    return click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        default=default,
        show_default=True,
        help="Run folder; the same command again goes on where it stopped.",
    )


def settings_of(kind: type, names: Collection[str] = ()) -> Callable[[Any], Any]:
    """Return one option per setting of a dataclass, absent unless given; presets fill the rest.

    names: of the settings; all if absent
    """

    def decorate(command: Any) -> Any:
        for name, field in reversed(declared(kind).items()):
            if names and name not in names:
                continue
            told = field.metadata
            given: dict[str, Any] = {"help": told["help"], "default": None}
            if told["choices"]:
                given["type"] = click.Choice(told["choices"])
            elif isinstance(field.default, bool):
                given["is_flag"] = True
            elif isinstance(field.default, str):
                given["metavar"] = "DIR"
            else:
                bounds = {"min": told["at_least"], "max": told["at_most"]}
                ranged = click.IntRange if isinstance(field.default, int) else click.FloatRange
                given["type"] = ranged(**bounds)
            command = click.option(option_of(name), **given)(command)
        return command

    return decorate
