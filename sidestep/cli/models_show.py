"""`sidestep models show`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sidestep.model_folder import ModelFolder


@click.command()
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def command(model: Path | None, as_json: bool) -> None:
    """Show the card of MODEL (default: the embedded one).

    Its recipe, quality, certificates, licences and limits, as the files of the folder tell them.
    """
    from sidestep.model_folder import ModelFolder

    folder = ModelFolder.open(model)
    if as_json:
        told = {**asdict(folder.card), "certificates": _certificates(folder)}
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    for line in _lines(folder):
        click.echo(line)


def _lines(folder: ModelFolder) -> Iterator[str]:
    card = folder.card
    height, width = card.image_size
    yield f"{card.name} ({folder.path})"
    yield from _section(
        "Pictures",
        {
            "size": f"{width}x{height} pixels",
            "evaluations": f"{card.steps} a picture",
            "prompt": f"at most {card.tokens} tokens",
            "weights": card.weights,
            "examples": card.examples,
            "styles": card.styles,
        },
    )
    yield from _section("Recipe", card.recipe)
    yield from _section("Quality", card.quality)
    yield from _section("Small decoder", card.small_decoder, or_else="none")
    yield from _section("Certificates", {n: _told(c) for n, c in _certificates(folder).items()})
    yield from _section("Licences", card.licences)
    yield "Limits"
    yield f"  {card.limits or 'not told'}"


def _section(title: str, values: Mapping[str, Any], *, or_else: str = "not told") -> Iterator[str]:
    yield title
    if not values:
        yield f"  {or_else}"
    for name, value in values.items():
        yield from _entry(name, value, indent=2)


def _entry(name: str, value: Any, *, indent: int) -> Iterator[str]:
    """Write a value on one line, and mappings within others on lines of their own."""
    label = f"{' ' * indent}{name.replace('_', ' ')}"
    if isinstance(value, list) and _is_nested(value):
        for number, one in enumerate(value, 1):
            yield from _entry(f"{name}, part {number}", one, indent=indent)
    elif isinstance(value, Mapping) and any(map(_is_nested, value.values())):
        yield label
        for inner, one in value.items():
            yield from _entry(inner, one, indent=indent + 2)
    else:
        yield f"{label}: {_text(value)}"


def _is_nested(value: Any) -> bool:
    in_a_list = isinstance(value, list) and any(isinstance(one, Mapping) for one in value)
    return isinstance(value, Mapping) or in_a_list


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_text(one)}" for name, one in value.items())
    if isinstance(value, tuple):  # the card's own lists
        return ", ".join(map(_text, value))
    if isinstance(value, list):  # settings, which stand among others
        return "/".join(map(_text, value))
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:,}" if isinstance(value, int) else str(value)


def _certificates(folder: ModelFolder) -> dict[str, dict[str, Any]]:
    """Read what is compiled and how near the reference it is, or what is wrong with the proof."""
    from bench.certificates import faults_in
    from sidestep.doctor.found_models import certificates, decoders_of

    told: dict[str, dict[str, Any]] = {}
    for seen in decoders_of(folder):
        for name, path in certificates(seen).items():
            faults = faults_in(path, seen.card.weights)
            values = {"faults": faults} if faults else json.loads(path.read_text(encoding="utf-8"))
            told[name] = values
    return told


def _told(certificate: Mapping[str, Any]) -> str:
    if faults := certificate.get("faults"):
        return "; ".join(faults)
    psnr = certificate["psnr_db"]
    return (
        f"{certificate['precision']}, up to {certificate['largest_difference']}/255 from PyTorch "
        f"({'equal' if psnr is None else f'{psnr} dB'}), {certificate['batch_invariance']}/255 "
        "between alone and in a batch"
    )
