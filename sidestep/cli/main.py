"""`sidestep`: commands are imported when they are called, so that `--help` is instant."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import TextIO

import click

from sidestep import __version__
from sidestep.cli.lazy import LazyGroup
from sidestep.errors import (
    InvalidData,
    InvalidModel,
    InvalidRequest,
    InvalidTraining,
    SidestepError,
    Stopped,
)

# name -> (module in sidestep.cli, one line of help)
COMMANDS = {
    "generate": ("generate", "Draw pictures from prompts into a folder."),
    "verify": ("verify", "Draw a picture again from its recipe and compare."),
    "serve": ("serve", "Serve the HTTP API and the page."),
    "ui": ("ui", "Show the page of a service that runs elsewhere."),
    "doctor": ("doctor", "Find out what is wrong with this machine or a model, and the mend."),
    "models": ("models", "List, show and check models; open a service's anew."),
    "keys": ("keys", "Add, list and revoke the service's API keys."),
    "run": ("run", "Distil, compile, certify, judge and time a model in one command."),
    "data": ("data", "Build a training set."),
    "new": ("new", "Make a full-size model with random weights, to measure cost."),
    "import": ("import_checkpoint", "Turn one of the authors' pickles into a model."),
    "train": ("train", "Train the embedded models, or a teacher of emoji, from nothing."),
    "distill": ("distill", "Distil a teacher into a one-step generator (SiD-LSG)."),
    "distill-decoder": ("distill_decoder", "Distil a model's decoder into a lighter one."),
    "export": ("export", "Compile a model and certify what was compiled."),
    "evaluate": ("evaluate", "Judge a model's pictures beside its teacher's and real ones."),
    "evaluate-coco": ("evaluate_coco", "Score a model as the paper does, on COCO-2014."),
    "evaluate-plot": ("evaluate_plot", "Plot FID against CLIP score of several models."),
    "train-judge": ("train_judge", "Train the judge of emoji that `evaluate` asks."),
    "bench": ("bench", "Measure engines and services, and compare what was measured."),
    "card": ("card", "Draw a model's sample grid and write its card."),
}
OURS = {"sidestep", "distill", "export", "serve", "ui", "bench"}  # whose warnings people see
USER_ERRORS = (InvalidRequest, InvalidModel, InvalidData, InvalidTraining)


@click.group(
    cls=LazyGroup, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="sidestep")
def cli() -> None:
    """Draw pictures from prompts with one network evaluation each.

    \b
    sidestep generate "red apple" --seed 7 --out out/
    sidestep serve
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; the one place where errors become lines and exit codes.

    Exit codes: 0 done, or stopped with its state saved; 1 failed; 2 the caller's to mend;
    130 interrupted.
    """
    warnings.showwarning = _show_warning
    logger = logging.getLogger("sidestep.engines")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _Say) for handler in logger.handlers):
        logger.addHandler(_Say())
    try:
        cli.main(args=arguments, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except Stopped as stopped:
        click.echo(stopped, err=True)
    except SidestepError as error:
        click.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(2 if isinstance(error, USER_ERRORS) else 1)
    except _unwritable() as error:  # a folder that is not ours to write in, a full disk
        click.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(1)


def _unwritable() -> tuple[type[Exception], ...]:
    """Return what a failed write raises; safetensors has an error of its own, where it is loaded.

    It is not imported for that: the command line starts without it.
    """
    loaded = sys.modules.get("safetensors")
    return (OSError,) if loaded is None else (OSError, loaded.SafetensorError)


class _Say(logging.Handler):
    """Tell on stderr what the library logs, such as which engine was chosen and why."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        click.echo(record.getMessage(), err=True)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if category.__module__.partition(".")[0] in OURS:
        click.echo(f"{category.__name__}: {message}", err=True)
