"""The paper's ablations in miniature: one student for each case, all judged alike.

Figures 3 and 4 and Table 3 compare strategies and guidance scales, Figure 5 the generator's
timestep, Figure 10 number formats. Here every student sees as many images as the others, and is
compared with the same teacher and the same real pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.quality.evaluate import EvaluateOptions, Judged, Quality, evaluate
from bench.reports import Report
from distill.guidance import Guidance, strategy
from distill.options import DistillOptions
from distill.presets import PRESETS
from distill.progress import save_grid
from distill.student import EXAMPLES, distil_folder
from sidestep.generator import Generator
from sidestep.images import decode

IMAGES_SEEN, BATCH, KAPPA = 3840, 32, 1.5
SHOWN = 10  # pictures of each case


@dataclass(frozen=True)
class Case:
    """A student by what it has otherwise than the first: a strategy and options."""

    question: str
    guidance: Guidance = field(default_factory=lambda: strategy("lsg", KAPPA))
    changes: Mapping[str, Any] = field(default_factory=dict)

    def options(self, images: int) -> DistillOptions:
        """Return the whole recipe for so many images; checkpoints at the half and at the end."""
        batch = self.changes.get("batch", BATCH)
        steps = images // batch
        base = replace(
            PRESETS["emoji"].options,
            guidance=self.guidance,
            batch=batch,
            iterations=steps,
            checkpoint_every=max(1, steps // 2),
        )
        return replace(base, **self.changes)


STRATEGIES, TIMESTEPS, BATCHES, FORMATS = (
    "strategies and guidance (Figures 3 and 4, Table 3)",
    "the generator's timestep (Figure 5)",
    "images per update",
    "number formats (Figure 10)",
)
CASES = {
    "lsg1.5": Case(STRATEGIES),
    "none": Case(STRATEGIES, strategy("none", 1)),
    "long": Case(STRATEGIES, strategy("long", 3)),
    "lsg3": Case(STRATEGIES, strategy("lsg", 3)),
    "lsg4.5": Case(STRATEGIES, strategy("lsg", 4.5)),
    "short": Case(STRATEGIES, strategy("short", 0.5)),
    "simplest": Case(STRATEGIES, strategy("simplest", 2)),
    **{
        f"t{t}": Case(TIMESTEPS, changes={"init_timestep": t})
        for t in (354, 550, 675, 800, 900, 999)
    },
    "b8": Case(BATCHES, changes={"batch": 8}),
    "fp32": Case(FORMATS, changes={"precision": "fp32"}),
    "fp16": Case(FORMATS, changes={"precision": "fp16"}),
}
# What a table of a question begins with: the case that all others differ from.
FIRST = {STRATEGIES: "lsg1.5", TIMESTEPS: "t625", BATCHES: "b32", FORMATS: "bf16"}


def train(
    teacher: Path, prompts: Sequence[str], out: Path, names: Sequence[str], *, images: int
) -> dict[str, Path]:
    """Distil the named cases into `out/NAME`; what is finished is left alone. The models' folders.

    Raises what `distil_folder` raises.
    """
    models = {}
    for name in names:
        model = out / name / "model"
        if not (model / "sidestep.json").is_file():
            distil_folder(teacher, prompts, out / name, CASES[name].options(images), name=name)
        models[name] = model
    return models


def judge(models: Mapping[str, Path], store: Path, options: EvaluateOptions) -> dict[str, Quality]:
    """Judge every model, and with the first what is the same for all: teacher and start."""
    alone = replace(options, teacher=False, start=False)
    return {
        name: evaluate(model, store, alone if number else options)
        for number, (name, model) in enumerate(models.items())
    }


def report(qualities: Mapping[str, Quality]) -> Report:
    """Write a row for each question and case, after the real pictures and the teacher."""
    first = next(iter(qualities.values()))
    known = {"real pictures": first.real}
    if first.start:
        known["before the first update"] = first.start
    if first.teacher:
        known[f"teacher, 50 steps at {first.guidance:g}"] = first.teacher
    rows = [_row("", name, judged) for name, judged in known.items()]
    for question, name in FIRST.items():
        rows.append(_row(question, name, qualities["lsg1.5"].student))
        rows += [
            _row(question, case, quality.student)
            for case, quality in qualities.items()
            if CASES[case].question == question and case != "lsg1.5"
        ]
    settings = {"pictures": first.images, "judge": first.judge}
    return Report("ablation", rows, settings=settings)


def save_pictures(models: Mapping[str, Path], path: Path) -> None:
    """Write a grid of the same prompts at seed 0, a labelled row for each model."""
    save_grid(path, [_drawn(model) for model in models.values()], labels=list(models))


def _row(question: str, case: str, judged: Judged) -> dict[str, Any]:
    figures = {
        "frechet": judged.seen.frechet,
        "precision": judged.seen.precision,
        "recall": judged.seen.recall,
        "clip": judged.fit.clip,
        "named": judged.fit.named,
        "diversity": judged.diversity,
    }
    told = {k: v if v is None else float(f"{v:.4g}") for k, v in figures.items()}
    return {"question": question, "case": case, **told}


def _drawn(model: Path) -> list[NDArray[np.uint8]]:
    generator = Generator.load(model, engine="pytorch")
    prompts = list(EXAMPLES[:SHOWN])
    return [decode(picture.data) for picture in generator.draw(prompts, [0] * len(prompts))]
