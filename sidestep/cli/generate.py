"""`sidestep generate`: pictures into a folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidestep.cli.options import DECODER, ENGINE, MODEL, SEED

if TYPE_CHECKING:
    from sidestep.generator import Generator


@click.command()
@click.argument("prompts", nargs=-1)
@SEED
@click.option("--count", type=int, default=1, show_default=True, help="Pictures of each prompt.")
@click.option("--out", type=click.Path(path_type=Path), default="out", show_default=True)
@click.option("--format", default="png", show_default=True, help="png, jpeg or webp.")
@click.option("--recipe/--no-recipe", default=True, help="Write the recipe into each file.")
@click.option(
    "--prompts",
    "file",
    type=click.Path(path_type=Path),
    help="Draw a series: one prompt per line, each with a seed of --seeds.",
)
@click.option("--seeds", help="Of a series, such as 8,8,2,0-9.  [default: 0, 1, 2, ...]")
@click.option(
    "--batch",
    type=click.IntRange(1, 1024),
    default=16,
    show_default=True,
    help="Pictures of a series that are drawn together.",
)
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
    file: Path | None,
    seeds: str | None,
    batch: int,
    model: Path | None,
    engine: str,
    decoder: str,
) -> None:
    """Draw COUNT pictures of each prompt; picture i has seed SEED + i.

    Files are named after prompt and seed, and numbered where prompts look alike. `sidestep verify`
    draws one again from its recipe.

    A series is numbered instead, and the same command goes on where it stopped. On every GPU:

    \b
      torchrun --nproc-per-node 8 -m sidestep generate --model DIR \\
        --prompts captions.txt --seeds 0-29999 --out out/coco
    """
    from sidestep.generator import Generator

    load = partial(Generator.load, model, engine=engine, decoder=decoder)
    if file is not None or seeds is not None:
        if file is not None and prompts:
            raise click.UsageError("give prompts or --prompts FILE, not both")
        if seed is not None or count != 1 or format != "png" or not recipe:
            raise click.UsageError(
                "a series is PNG with recipes; it has --seeds, no --seed, --count"
            )
        _series(prompts, file, seeds, out, load, batch)
        return
    if not prompts:
        raise click.UsageError("give a prompt, or a file of them with --prompts FILE")
    from sidestep.requests import GenerateRequest

    values = {"seed": seed, "count": count, "format": format}
    requests = [GenerateRequest.parse({"prompt": prompt, **values}) for prompt in prompts]
    generator = load()
    names = file_names([request.prompt for request in requests])
    for request, name in zip(requests, names, strict=True):
        for picture in generator.generate(request, recipe=recipe):
            suffix = "jpg" if picture.format == "jpeg" else picture.format
            path = picture.save(out / f"{name}-{picture.seed}.{suffix}")
            click.echo(f"{path}  {picture.timings.engine_ms:.1f} ms")


def file_names(prompts: Sequence[str]) -> list[str]:
    """Name files after prompts, with a number where different ones would have the same name."""
    names: list[str] = []
    alike: dict[str, list[str]] = {}
    for prompt in prompts:
        name = re.sub(r"\W+", "-", prompt.lower()).strip("-")[:60] or "picture"
        others = alike.setdefault(name, [])
        if prompt not in others:
            others.append(prompt)
        number = others.index(prompt) + 1
        names.append(name if number == 1 else f"{name}--{number}")  # no prompt gives two hyphens
    return names


def _series(
    prompts: tuple[str, ...],
    file: Path | None,
    seeds: str | None,
    out: Path,
    load: Callable[[], Generator],
    batch: int,
) -> None:
    from sidestep.series import Series, draw_series, parse_seeds, read_lines, use_own_gpu

    texts = read_lines(file) if file else list(prompts)
    series = Series.of(texts, parse_seeds(seeds) if seeds else range(len(texts)))
    use_own_gpu()
    drawn = draw_series(load(), series, out, batch=batch)
    click.echo(f"{out}: {drawn:,} of {len(series.seeds):,} pictures drawn now")
