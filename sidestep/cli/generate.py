"""`sidestep generate`: pictures into a folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidestep.cli.options import DECODER, ENGINE, MODEL, SEED, refuse_idle

if TYPE_CHECKING:
    from sidestep.generator import Generator


@click.command()
@click.argument("prompts", nargs=-1)
@SEED
@click.option("--count", type=int, default=1, show_default=True, help="Pictures of each prompt.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default="out", show_default=True
)
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
    refuse_idle({"batch": "--batch"}, "a series (--prompts FILE or --seeds)")
    if not prompts:
        raise click.UsageError("give a prompt, or a file of them with --prompts FILE")
    from sidestep.requests import GenerateRequest

    values = {"seed": seed, "count": count, "format": format}
    requests = [GenerateRequest.parse({"prompt": prompt, **values}) for prompt in prompts]
    generator = load()
    taken: set[str] = set()
    for request in requests:
        for picture in generator.generate(request, recipe=recipe):
            stem = _stem(request.prompt, picture.seed, taken)
            suffix = "jpg" if picture.format == "jpeg" else picture.format
            path = picture.save(out / f"{stem}.{suffix}")
            click.echo(f"{path}  {picture.timings.engine_ms:.1f} ms")


def _stem(prompt: str, seed: int, taken: set[str]) -> str:
    """Name a file after prompt and seed, and numbered where another prompt took that name."""
    name = re.sub(r"\W+", "-", prompt.lower()).strip("-")[:60] or "picture"
    names = chain([f"{name}-{seed}"], (f"{name}-{seed}-{number}" for number in count(2)))
    stem = next(free for free in names if free not in taken)
    taken.add(stem)
    return stem


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
