"""A distillation's recipe on the command line: a preset, and flags that beat it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import click

from distill.guidance import STRATEGIES, UNSCALED, Guidance, strategy
from distill.options import DistillOptions
from distill.presets import PRESETS
from distill.settings import declared
from sidestep.cli.options import settings_of
from sidestep.errors import InvalidTraining

PRESET = click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    default="emoji",
    show_default=True,
    help="Recipe that sets everything below.",
)
SCALES = {
    "kappa1": "Of the fake score while it is trained.",
    "kappa2": "Of the fake score in the loss's first factor.",
    "kappa3": "Of the fake score in the loss's second factor.",
    "kappa4": "Of the teacher.",
    "alpha": "Of the loss, section 3.2.",
}


def recipe_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add one flag for each of a recipe's settings, absent unless given."""
    command = settings_of(DistillOptions)(command)
    for name, told in reversed(SCALES.items()):
        command = click.option(f"--{name}", type=float, help=told)(command)
    command = click.option("--kappa", type=float, help="Guidance scale of the strategy.")(command)
    return click.option("--strategy", type=click.Choice(STRATEGIES), help="Where guidance enters.")(
        command
    )


def recipe_of(preset: str, given: Mapping[str, Any]) -> DistillOptions:
    """Return the preset's recipe with what was given instead."""
    recipe = PRESETS[preset].options
    chosen = {key: given[key] for key in declared(DistillOptions) if given[key] is not None}
    return replace(recipe, guidance=_guidance(recipe.guidance, given), **chosen)


def _guidance(preset: Guidance, given: Mapping[str, Any]) -> Guidance:
    """Take the preset's guidance, then --strategy and --kappa, then each scale by itself."""
    guidance = preset
    if given["strategy"] in UNSCALED and given["kappa"] is not None:
        raise InvalidTraining(
            f"--strategy {given['strategy']} knows no guidance scale; leave --kappa out"
        )
    if given["strategy"] is not None or given["kappa"] is not None:
        kappa = preset.kappa4 if given["kappa"] is None else given["kappa"]
        guidance = strategy(given["strategy"] or "lsg", kappa)
    return replace(guidance, **{key: given[key] for key in SCALES if given[key] is not None})
