"""`sidestep models list`."""

from __future__ import annotations

from pathlib import Path

import click

COLUMNS = ("name", "folder", "pixels", "steps", "weights", "MB", "compiled")


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path), metavar="[FOLDER]...")
def command(folders: tuple[Path, ...]) -> None:
    """List the models in each FOLDER: name, size, steps, hash of the weights and what is compiled.

    A FOLDER is a model or holds some. Without one: the default model, and those of models/ and
    runs/*/model.
    """
    from sidestep.doctor.found_models import find_models

    rows = [COLUMNS, *(_row(path) for path in find_models(folders))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[-1]]))


def _row(path: Path) -> tuple[str, ...]:
    from sidestep.doctor.found_models import certificates, decoders_of
    from sidestep.errors import InvalidModel
    from sidestep.model_folder import ModelFolder

    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    megabytes = f"{size / 1e6:,.1f}"
    try:
        folder = ModelFolder.open(path)
        compiled = [name for seen in decoders_of(folder) for name in certificates(seen)]
    except InvalidModel as error:
        return ("?", str(path), "?", "?", "?", megabytes, f"InvalidModel: {error}")
    card = folder.card
    height, width = card.image_size
    cells = (card.name, str(path), f"{width}x{height}", str(card.steps), card.weights[:12])
    return (*cells, megabytes, ", ".join(compiled) or "nothing")
