"""Options that several commands share."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from distill.settings import declared, option_of
from sidestep.engines.load import ENGINES
from sidestep.errors import InvalidRequest
from sidestep.model_folder import DECODERS


def writable_file(
    context: click.Context, parameter: click.Parameter, path: Path | None
) -> Path | None:
    """Check before long work that a file can be written at `path`; the callback of an option.

    Folders that are missing will be made. Raises InvalidRequest with the mend.
    """
    if path is None:
        return None
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        with tempfile.TemporaryFile(dir=parent):  # which also finds a disk that is read-only
            return path
    except OSError as error:
        raise InvalidRequest(
            f"{parameter.opts[0]} is {path}, where no file can be written ({error}); "
            "give another path",
            field=parameter.name,
        ) from error


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
GATE = click.option(
    "--gate",
    "gates",
    multiple=True,
    metavar="NAME>=NUMBER",
    help="A figure of the model's card that must hold, else the speeds are marked invalid.",
)
REPORT_OUT = click.option(
    "--out",
    type=click.Path(path_type=Path),
    callback=writable_file,
    help="Write the report here, as JSON.",
)
SEED = click.option("--seed", type=int, help="Seed of the first picture; drawn if absent.")


def refuse_idle(flags: Mapping[str, str], need: str) -> None:
    """Refuse flags that change nothing here, by the names of their parameters.

    need: what they are about. Raises InvalidRequest naming the first that was given.
    """
    source = click.get_current_context().get_parameter_source
    for name, flag in flags.items():
        if source(name) is ParameterSource.COMMANDLINE:
            raise InvalidRequest(f"{flag} is about {need}; give that too", field=name)


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
                bounded = any(bound is not None for bound in bounds.values())
                given["type"] = ranged(**bounds) if bounded else type(field.default)
            command = click.option(option_of(name), **given)(command)
        return command

    return decorate
