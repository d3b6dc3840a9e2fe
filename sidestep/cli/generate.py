"""`sidestep generate`: pictures into a folder."""

from __future__ import annotations

import re
from pathlib import Path

import click

from sidestep.cli.options import DECODER, ENGINE, MODEL, SEED


@click.command()
@click.argument("prompts", nargs=-1, required=True)
@SEED
@click.option("--count", type=int, default=1, show_default=True, help="Pictures of each prompt.")
@click.option("--out", type=click.Path(path_type=Path), default="out", show_default=True)
@click.option("--format", default="png", show_default=True, help="png, jpeg or webp.")
@click.option("--recipe/--no-recipe", default=True, help="Write the recipe into each file.")
@MODEL
@ENGINE
@DECODER
def command(
    prompts: tuple[str, ...],
    seed: int | None,
    count: int,
    out: Path,
    format: str,
    recipe: bool,
    model: Path | None,
    engine: str,
    decoder: str,
) -> None:
    """Draw COUNT pictures of each prompt; picture i has seed SEED + i.

    Files are named after prompt and seed. `sidestep verify` draws one again from its recipe.
    """
    from sidestep.generator import Generator
    from sidestep.requests import GenerateRequest

    values = {"seed": seed, "count": count, "format": format}
    requests = [GenerateRequest.parse({"prompt": prompt, **values}) for prompt in prompts]
    generator = Generator.load(model, engine=engine, decoder=decoder)
    for request in requests:
        for picture in generator.generate(request, recipe=recipe):
            name = re.sub(r"\W+", "-", request.prompt.lower()).strip("-")[:60] or "picture"
            suffix = "jpg" if picture.format == "jpeg" else picture.format
            path = picture.save(out / f"{name}-{picture.seed}.{suffix}")
            click.echo(f"{path}  {picture.timings.engine_ms:.1f} ms")
