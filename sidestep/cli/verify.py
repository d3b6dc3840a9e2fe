"""`sidestep verify`: whether a picture is what its recipe draws."""

from __future__ import annotations

from pathlib import Path

import click

from sidestep.cli.options import ENGINE, MODEL
from sidestep.errors import InvalidRequest


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@MODEL
@ENGINE
def command(file: Path, model: Path | None, engine: str) -> None:
    """Draw FILE again from the recipe inside it and compare the pixels.

    Exit code 0 if they agree within the engine's certificate, 1 if not, 2 if FILE has no recipe or
    is of another model.
    """
    from sidestep.generator import Generator
    from sidestep.model_folder import ModelFolder
    from sidestep.verification import verify, with_its_decoder

    try:
        data = file.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read ({error.strerror})", field="file") from None
    folder = with_its_decoder(data, ModelFolder.open(model))
    generator = Generator.load(folder.path, engine=engine, decoder=folder.decoder)
    verdict = verify(data, folder, generator)
    recipe = verdict.recipe
    click.echo(
        f"{file} is {recipe.prompt!r} with seed {recipe.seed} by {recipe.model}: "
        f"largest difference {verdict.largest_difference}/255"
    )
