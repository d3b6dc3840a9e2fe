"""How good a model of emoji is, beside its teacher and the real pictures.

from bench.quality.evaluate import evaluate
quality = evaluate(Path("runs/student/model"), Path("runs/quality"))
quality.student.seen.frechet
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.quality.examples import name_examples, shuffled
from bench.quality.hearing import Hearing
from bench.quality.judge import WEIGHTS, Judge, Reference, find_judge
from bench.quality.made import kappas_of, told_prompts
from bench.quality.picture_store import PictureStore
from bench.quality.protocol import make_plan, read_held_out, unseen_combinations
from bench.quality.ranking import rank
from bench.quality.result import Quality
from bench.quality.similarity import nearest
from bench.quality.sources import Source, start_of, student_of, teacher_at
from distill.folders import teacher_of
from distill.many_steps import ManyStepTeacher
from sidestep.files import sha256
from sidestep.generator import Generator
from sidestep.model_folder import HELD_OUT, ModelFolder

DIVERSE = 8  # prompts whose pictures are compared with each other
SHOWN = 64  # prompts that are told one by one, those of the grid of samples
SOURCE = "captions of half A of the judge's real pictures"
NEAREST = 16  # samples whose nearest real pictures are listed


@dataclass(frozen=True)
class EvaluateOptions:
    """What is drawn and by whom.

    images: pictures that are compared with the real ones; teacher: whether it draws them too
    start: whether the generator before its first update, the teacher in one step, draws them too
    brief: leave out held-out prompts, diversity and what is shown, more than the comparison itself
    guidance: the teacher's; the best of 1.5, 2, 3, 4.5 if absent, by a quarter of the pictures
    held_out: file of prompts; the model's own, or names in styles that they do not have, if absent
    judge: its folder; the shipped one if absent
    """

    images: int = 1000
    engine: str = "auto"
    teacher: bool = True
    guidance: float | None = None
    held_out: Path | None = None
    judge: Path | None = None
    start: bool = False
    brief: bool = False


def evaluate(
    model: Path | None,
    store: Path,
    options: EvaluateOptions = EvaluateOptions(),
) -> Quality:
    """Draw, judge and compare; what is drawn stays in `store`, so that a stopped run goes on.

    model: a folder, the embedded model if absent. Raises InvalidModel, InvalidData and
    BackendUnavailable naming what is wrong.
    """
    began = time.perf_counter()
    folder = ModelFolder.open(model)
    judge_folder = options.judge or find_judge()
    judge, reference = Judge.load(judge_folder), Reference.load(judge_folder)
    held_out, held_out_source = _held_out(folder, reference, options.held_out)
    plan = make_plan(
        reference,
        images=options.images,
        held_out=held_out,
        diverse=folder.card.examples[:DIVERSE],
    )
    shown, examples = plan.prompts[:SHOWN], shuffled(folder.card.examples)
    if options.brief:
        plan, shown, examples = replace(plan, held_out=[], diverse=[]), [], []
    hearing = Hearing(judge, reference, plan, PictureStore(store))
    generator = Generator.load(folder.path, engine=options.engine)
    sources, guidance = _sources(folder, generator, hearing, options)
    judged = {name: hearing.hear(source) for name, source in sources.items()}
    pictures = {
        name: hearing.show(source, shown)
        for name, source in sources.items()
        if shown and name != "start"
    }
    named = []
    if examples:
        pictures["examples"] = hearing.show(sources["student"], examples)
        named = name_examples(judge, reference, judge.see(pictures["examples"]), examples)
    return Quality(
        model=folder.card.name,
        weights=folder.card.weights,
        kappas=kappas_of(folder.card),
        engine=generator.engine.spec.name,
        judge=sha256(judge_folder / WEIGHTS),
        images=options.images,
        guidance=guidance,
        real=hearing.judged(plan.yardstick),
        student=judged["student"],
        teacher=judged.get("teacher"),
        start=judged.get("start"),
        ranking=rank(judge, plan),
        prompts={**told_prompts(plan.prompts, SOURCE), "first": plan.prompts[:SHOWN]},
        held_out_prompts=told_prompts(plan.held_out, held_out_source) if plan.held_out else None,
        nearest=_nearest(hearing, pictures["student"], shown) if shown else [],
        examples=named,
        seconds=round(time.perf_counter() - began, 1),
        pictures=pictures,
    )


def _held_out(
    folder: ModelFolder, reference: Reference, given: Path | None
) -> tuple[list[str], str]:
    """Return held-out prompts, and where they are from."""
    if given:
        return read_held_out(given), given.name
    if (own := folder.path / HELD_OUT).is_file():
        return read_held_out(own), f"the model's {HELD_OUT}"
    return unseen_combinations(reference), "names in styles that they do not have"


def _sources(
    folder: ModelFolder, generator: Generator, hearing: Hearing, options: EvaluateOptions
) -> tuple[dict[str, Source], float | None]:
    """Name those who draw, and tell the teacher's guidance."""
    sources = {"student": student_of(generator)}
    if options.start:
        sources["start"] = start_of(folder, generator)
    if not options.teacher:
        return sources, None
    teacher, guidance = ManyStepTeacher(teacher_of(folder)), options.guidance
    if guidance is None:
        guidance = hearing.best_guidance(teacher)
    return {**sources, "teacher": teacher_at(teacher, guidance)}, guidance


def _nearest(
    hearing: Hearing, pictures: NDArray[np.uint8], prompts: Sequence[str]
) -> list[dict[str, Any]]:
    """Tell the nearest of all real pictures to the first of the samples [N, H, W, 3]."""
    reference = hearing.reference
    rows, apart = nearest(hearing.judge.see(pictures[:NEAREST]), reference.features)
    return [
        {
            "prompt": prompt,
            "nearest": f"{reference.names[row]}, {reference.styles[row]}",
            "row": int(row),
            "distance": round(float(distance), 4),
        }
        for prompt, row, distance in zip(prompts, rows, apart, strict=False)
    ]
