"""`sidestep models check`."""

from __future__ import annotations

from pathlib import Path

import click

from sidestep.errors import EngineMismatch, InvalidModel


@click.command()
@click.argument("model", type=click.Path(path_type=Path), required=False)
def command(model: Path | None) -> None:
    """Check MODEL (default: the embedded one): files, certificates and compiled plans.

    Exit code 2 at the first that is damaged or of another model or machine.
    """
    from sidestep.doctor.found_models import check_model
    from sidestep.model_folder import ModelFolder

    folder = ModelFolder.open(model)
    try:
        for line in check_model(folder):
            click.echo(line)
    except EngineMismatch as error:  # a plan in it cannot be used, so the folder is not whole
        raise InvalidModel(f"{folder.path}: {error}") from error
