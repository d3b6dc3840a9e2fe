"""What `sidestep run` can be asked for, and what a short run changes; importing needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distill.decoder_options import DecoderOptions
from distill.options import DistillOptions
from export.options import ExportOptions
from sidestep.errors import InvalidTraining

EMOJI = "emoji"  # the preset whose pictures the shipped judge knows
STAGES = ("distil", "decoder", "export", "certify", "evaluate", "bench", "card")
LEAST_MINUTES = 0.1  # in which anything can be done
# Of a run's minutes: what the distillation gets. The rest loads, exports, draws and judges.
DISTIL_SHARE = 0.45
PICTURES, FEW_PICTURES = 1000, 96  # that the judge compares, in a whole run and in a short one
BENCH_S, FEW_BENCH_S = 20.0, 2.0  # for each engine and batch size


@dataclass(frozen=True)
class RunOptions:
    """One run.

    preset, distil: the recipe; teacher: a folder; prompts: what is trained on
    to, precision, buckets: of the exports; decoder: of a small decoder, none if absent
    coco: a prepared folder that other models than those of emoji are scored on
    device: of the trainings; processes: that distil together
    minutes: of a short run, whose figures are coarse; 0 for a whole one
    """

    preset: str
    distil: DistillOptions
    teacher: Path
    prompts: tuple[str, ...]
    out: Path
    to: tuple[str, ...] = ("onnx",)
    precision: str | None = None
    buckets: tuple[int, ...] = (1, 2, 4, 8)
    decoder: DecoderOptions | None = None
    coco: Path | None = None
    device: str = "cpu"
    processes: int = 1
    minutes: float = 0.0

    @property
    def identity(self) -> dict[str, Any]:
        """What makes it this run: another recipe is another run, and wants another folder."""
        return {"preset": self.preset, **self.distil.identity}

    @property
    def exports(self) -> tuple[ExportOptions, ...]:
        """The exports; fp32 for the small model, else fp16, unless it was said."""
        precision = self.precision or ("fp32" if self.preset == EMOJI else "fp16")
        return tuple(ExportOptions(to, precision, buckets=self.buckets) for to in self.to)

    @property
    def is_short(self) -> bool:
        """Whether it is bound by minutes."""
        return self.minutes > 0


def within(minutes: float, recipe: DistillOptions) -> DistillOptions:
    """Bind a recipe to the share of a short run's minutes that distils.

    Small batches and large steps: the start is left soonest, at the cost of the last percents.
    Raises InvalidTraining for minutes that are too few to do anything in.
    """
    if minutes < LEAST_MINUTES:
        raise InvalidTraining(f"--budget {minutes:g} is below {LEAST_MINUTES:g} minutes, the least")
    return replace(
        recipe,
        batch=8,
        learning_rate=1e-4,
        ema_half_life=1_000,
        iterations=1_000_000,
        seconds=60 * minutes * DISTIL_SHARE,
        checkpoint_every=20,
    )
