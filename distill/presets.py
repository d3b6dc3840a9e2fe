"""Recipes as a table, with the published results beside each; a flag beats its preset.

The paper's: Algorithm 1 and Table 4 (hyperparameters), Tables 1 and 2 (results on COCO-2014, 30,000
captions). 10M images are 19,532 updates of 512.
"""

from __future__ import annotations

from dataclasses import dataclass

from distill.guidance import strategy
from distill.options import DistillOptions


@dataclass(frozen=True)
class Published:
    """The authors' result of a preset at one kappa: FID, CLIP score."""

    kappa: float
    fid: float
    clip: float


@dataclass(frozen=True)
class Preset:
    """A recipe: the teacher it is for, how it trains, and what the authors reached with it."""

    about: str
    options: DistillOptions
    published: tuple[Published, ...] = ()


_PAPER = DistillOptions(
    guidance=strategy("lsg", 1.5),
    iterations=19_532,
    batch=512,
    per_device_batch=8,
    learning_rate=1e-6,
    ema_half_life=50_000,
    precision="bf16",
    checkpoint_every=500,
)

_EMOJI = DistillOptions(guidance=strategy("lsg", 1.5), init_timestep=800, batch=16, iterations=2600)

PRESETS = {
    "emoji": Preset("the embedded teacher, on two CPU cores", _EMOJI),
    "sd15": Preset(
        "Stable Diffusion 1.5, 512x512",
        _PAPER,
        (
            Published(1.5, fid=8.71, clip=0.302),
            Published(2, fid=9.56, clip=0.313),
            Published(3, fid=13.21, clip=0.314),
            Published(4.5, fid=16.59, clip=0.317),
        ),
    ),
    "sd21-base": Preset(
        "Stable Diffusion 2.1-base, 512x512",
        _PAPER,
        (
            Published(1.5, fid=9.52, clip=0.308),
            Published(2, fid=10.97, clip=0.318),
            Published(3, fid=13.50, clip=0.321),
            Published(4.5, fid=16.54, clip=0.322),
        ),
    ),
}


def describe() -> str:
    """Describe the presets as lines of text, for a command's help."""
    lines = []
    for name, preset in PRESETS.items():
        options = preset.options
        lines.append(
            f"{name:<10} {preset.about}: {options.iterations:,} updates of {options.batch}, "
            f"learning rate {options.learning_rate:g}, {options.precision}"
        )
        if preset.published:
            results = "; ".join(f"{p.kappa:g}: {p.fid:.2f}/{p.clip}" for p in preset.published)
            lines.append(f"{'':<10} published FID/CLIP by kappa: {results}")
    return "\n".join(lines)
