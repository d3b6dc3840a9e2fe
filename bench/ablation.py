"""The paper's ablations in miniature: one student for each case, all judged alike.

Figures 3 and 4 and Table 3 compare strategies and guidance scales, Figure 5 the generator's
timestep, Figure 10 number formats. Here every student sees as many images as the others, and is
compared with the same teacher and the same real pictures.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.ours import EngineDrawer
from bench.quality.evaluate import EvaluateOptions, evaluate
from bench.quality.result import Judged, Quality
from bench.reports import Report
from distill.checkpoints import kept_options
from distill.folders import load_teacher
from distill.guidance import Guidance, strategy
from distill.options import DistillOptions
from distill.presets import PRESETS
from distill.progress import save_grid
from distill.real_pictures import is_encoded_in
from distill.student import EXAMPLES, distil_folder, identity_of
from export.run import export_model
from sidestep.errors import InvalidRequest
from sidestep.generator import Generator
from sidestep.images import decode
from sidestep.model_folder import CARD, ModelFolder
from sidestep.noise import latent_noise

IMAGES_SEEN, BATCH, KAPPA = 3840, 32, 1.5
PAPERS_TIMESTEP = 625  # of the generator
SHOWN = 10  # pictures of each case
TIMED = 60  # pictures of each case that is timed


@dataclass(frozen=True)
class Case:
    """A student by what it has otherwise than the first: a strategy and options.

    adversarial: whether real pictures are added to the loss
    """

    question: str
    guidance: Guidance = field(default_factory=lambda: strategy("lsg", KAPPA))
    changes: Mapping[str, Any] = field(default_factory=dict)
    adversarial: bool = False

    def options(self, images: int, real_images: Path | None = None) -> DistillOptions:
        """Return the whole recipe for so many images; checkpoints at the half and at the end."""
        batch = self.changes.get("batch", BATCH)
        steps = images // batch
        base = replace(
            PRESETS["emoji"].options,
            guidance=self.guidance,
            init_timestep=PAPERS_TIMESTEP,
            batch=batch,
            iterations=steps,
            checkpoint_every=max(1, steps // 2),
            real_images=str(real_images or "") if self.adversarial else "",
        )
        return replace(base, **self.changes)


STRATEGIES, TIMESTEPS, BATCHES, FORMATS, ROADMAP = (
    "strategies and guidance (Figures 3 and 4, Table 3)",
    "the generator's timestep (Figure 5)",
    "images per update",
    "number formats (Figure 10)",
    "few steps, and the adversarial term",
)
TENFOLD = {"adversarial_weight": 10 * DistillOptions().adversarial_weight}
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
    "adversarial": Case(ROADMAP, adversarial=True),
    "adversarial-10x": Case(ROADMAP, changes=TENFOLD, adversarial=True),
    "k2": Case(ROADMAP, changes={"steps": 2}),
    "k4": Case(ROADMAP, changes={"steps": 4}),
    "zero-cfg": Case(ROADMAP, strategy("zero-cfg", 1)),
    "zero-cfg-adversarial": Case(ROADMAP, strategy("zero-cfg", 1), adversarial=True),
    "zero-cfg-adversarial-10x": Case(ROADMAP, strategy("zero-cfg", 1), TENFOLD, adversarial=True),
}
# What a table of a question begins with: the case that all others differ from.
FIRST = {STRATEGIES: "lsg1.5", TIMESTEPS: "t625", BATCHES: "b32", FORMATS: "bf16", ROADMAP: "k1"}


def names(real_images: Path | None) -> list[str]:
    """Name all cases that can be distilled, with or without real pictures."""
    return [name for name, case in CASES.items() if real_images or not case.adversarial]


def train(
    teacher: Path,
    prompts: Sequence[str],
    out: Path,
    names: Sequence[str],
    *,
    images: int,
    real_images: Path | None = None,
) -> dict[str, Path]:
    """Distil the named cases into `out/NAME`; what is finished is left alone. The models' folders.

    real_images: a folder of pictures or of `sidestep data emoji`, for the adversarial cases
    Raises InvalidRequest where they need it, or where a finished model was distilled otherwise, and
    what `distil_folder` raises.
    """
    if real_images is None and (lacking := [n for n in names if CASES[n].adversarial]):
        raise InvalidRequest(
            f"the cases {', '.join(lacking)} need --real-images DIR; give it, or leave them out",
            field="cases",
        )
    recipes = {name: CASES[name].options(images, real_images) for name in names}
    models = {name: out / name / "model" for name in names}
    finished = [name for name, model in models.items() if (model / CARD).is_file()]
    for name in finished:
        _check_finished(models[name], recipes[name], len(prompts))
    _check_made_from({out / name: recipes[name] for name in finished}, teacher, prompts)
    for name in names:
        if name not in finished:
            distil_folder(teacher, prompts, out / name, recipes[name], name=name)
    return models


def _check_finished(model: Path, options: DistillOptions, prompts: int) -> None:
    """Raise InvalidRequest where a finished model saw more or fewer images, or other prompts."""
    recipe = ModelFolder.open(model).card.recipe
    asked = {"images_seen": options.batch * options.iterations, "prompts": prompts}
    for name, wanted in asked.items():
        if (found := recipe.get(name)) != wanted:
            raise InvalidRequest(
                f"{model} was distilled with {name} {found}, not {wanted}; choose another --runs, "
                "or delete it",
                field="runs",
            )


def _check_made_from(
    runs: Mapping[Path, DistillOptions], teacher: Path, prompts: Sequence[str]
) -> None:
    """Raise InvalidRequest where a finished run's checkpoint tells of another teacher or recipe.

    A run whose checkpoints were deleted is taken as it is.
    """
    kept = {run: told for run in runs if (told := kept_options(run))}
    if not kept:
        return
    taught = load_teacher(teacher)
    made_from = identity_of(taught, prompts)
    words = {"prompts": "other prompts", "real_images": "other real pictures"}
    for run, told in kept.items():
        options = runs[run]
        asked = json.loads(json.dumps({**asdict(options), **made_from}))  # what is off too
        if (folder := options.real_images) and is_encoded_in(
            run, Path(folder), taught.image_size, told.get("real_images")
        ):
            asked["real_images"] = told.get("real_images")
        names = sorted({*told, *options.identity, *made_from})
        if other := [name for name in names if told.get(name) != asked.get(name)]:
            differing = " and ".join(words.get(name, f"another {name}") for name in other)
            raise InvalidRequest(
                f"{run} was distilled with {differing}; choose another --runs, or delete it",
                field="runs",
            )


def judge(models: Mapping[str, Path], store: Path, options: EvaluateOptions) -> dict[str, Quality]:
    """Judge every model, and with the first what is the same for all: teacher and start."""
    alone = replace(options, teacher=False, start=False)
    return {
        name: evaluate(model, store, alone if number else options)
        for number, (name, model) in enumerate(models.items())
    }


def timed(names: Sequence[str]) -> list[str]:
    """Choose the cases that are timed: where several steps are the question, and the first."""
    asked = [name for name in names if CASES[name].question == ROADMAP]
    return ["lsg1.5", *asked] if asked else []


def engine_ms(models: Mapping[str, Path], calls: int = TIMED) -> dict[str, float]:
    """Time one picture of every model by the ONNX engine, all in turns; median milliseconds.

    A model without a graph is exported first. Cases of one step differ by chance alone.
    """
    drawers = {}
    for name, model in models.items():
        if not (model / "onnx").is_dir():
            export_model(ModelFolder.open(model))
        noise = latent_noise([0], ModelFolder.open(model).card.noise_shape)
        drawers[name] = EngineDrawer(model, "onnx"), noise
    taken: dict[str, list[float]] = {name: [] for name in drawers}
    for call in range(calls + 2):
        for name, (drawer, noise) in drawers.items():
            began = time.perf_counter()
            drawer.draw([EXAMPLES[call % len(EXAMPLES)]], noise)
            taken[name].append(1e3 * (time.perf_counter() - began))
    return {name: median(each[2:]) for name, each in taken.items()}


def report(
    qualities: Mapping[str, Quality], milliseconds: Mapping[str, float] | None = None
) -> Report:
    """Write a row for each question and case, after the real pictures and the teacher.

    milliseconds: of one picture, where they are known
    """
    first, ms = next(iter(qualities.values())), milliseconds or {}
    known = {"real pictures": first.real}
    if first.start:
        known["before the first update"] = first.start
    if first.teacher:
        known[f"teacher, 50 steps at {first.guidance:g}"] = first.teacher
    rows = [_row("", name, judged) for name, judged in known.items()]
    for question, name in FIRST.items():
        asked = [case for case in qualities if CASES[case].question == question]
        if others := [case for case in asked if case != "lsg1.5"]:
            for label, case in ((name, "lsg1.5"), *((case, case) for case in others)):
                rows.append(_row(question, label, qualities[case].student, ms.get(case)))
    settings = {"pictures": first.images, "judge": first.judge}
    return Report("ablation", rows, settings=settings)


def save_pictures(models: Mapping[str, Path], path: Path) -> None:
    """Write a grid of the same prompts at seed 0, a labelled row for each model."""
    save_grid(path, [_drawn(model) for model in models.values()], labels=list(models))


def _row(question: str, case: str, judged: Judged, ms: float | None = None) -> dict[str, Any]:
    figures = {
        "frechet": judged.seen.frechet,
        "precision": judged.seen.precision,
        "recall": judged.seen.recall,
        "clip": judged.fit.clip,
        "named": judged.fit.named,
        "diversity": judged.diversity,
        "engine_ms": ms,
    }
    told = {k: v if v is None else float(f"{v:.4g}") for k, v in figures.items()}
    return {"question": question, "case": case, **told}


def _drawn(model: Path) -> list[NDArray[np.uint8]]:
    generator = Generator.load(model, engine="pytorch")
    prompts = list(EXAMPLES[:SHOWN])
    return [decode(picture.data) for picture in generator.draw(prompts, [0] * len(prompts))]
