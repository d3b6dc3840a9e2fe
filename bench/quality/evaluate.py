"""How good a model of emoji is, beside its teacher and the real pictures.

from bench.quality.evaluate import evaluate
quality = evaluate(Path("runs/student/model"), Path("runs/quality"))
quality.student.seen.frechet
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.quality.examples import Example, name_examples, shuffled
from bench.quality.judge import WEIGHTS, Features, Judge, Reference, find_judge
from bench.quality.made import kappas_of, told_prompts
from bench.quality.picture_store import Draw, PictureStore
from bench.quality.protocol import (
    FIRST_SEED,
    Plan,
    make_plan,
    read_held_out,
    unseen_combinations,
)
from bench.quality.ranking import Ranking, rank
from bench.quality.scores import Distances, Fit, distances, fit
from bench.quality.similarity import mean_pairwise_distance, nearest
from distill.folders import load_teacher, teacher_hash, teacher_of
from distill.many_steps import ManyStepTeacher
from distill.measure import SCALES
from sidestep.engines.pytorch import TorchEngine
from sidestep.engines.torch_module import GeneratorModule
from sidestep.files import sha256
from sidestep.generator import Generator
from sidestep.model_folder import HELD_OUT, ModelFolder

FORMAT = 1
DIVERSE, SEEDS_EACH = 8, 16  # prompts and pictures of each, for diversity
SHOWN = 64  # prompts that are told one by one, those of the grid of samples
SOURCE = "captions of half A of the judge's real pictures"
NEAREST = 16  # samples whose nearest real pictures are listed


@dataclass(frozen=True)
class EvaluateOptions:
    """What is drawn and by whom.

    images: pictures that are compared with the real ones; teacher: whether it draws them too
    start: whether the generator before its first update, the teacher in one step, draws them too
    brief: leave out held-out prompts and diversity, more pictures than the comparison itself
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


@dataclass(frozen=True)
class Judged:
    """What the judge says of one source; `pictures` are those of the plan's prompts.

    diversity: mean distance between 16 pictures of one prompt
    nearest: median distance of a picture to the nearest real one of half B
    """

    seen: Distances
    fit: Fit
    nearest: float
    held_out: Fit | None = None
    diversity: float | None = None


@dataclass(frozen=True)
class Quality:
    """A model's quality beside its teacher's and that of real pictures.

    weights, judge: hashes; kappas: κ1…κ4, where known; guidance: the teacher's
    nearest: a line for each of 16 samples
    prompts, held_out_prompts: how many, their hash and where they are from; of the former the first
    ranking: of pictures that nobody drew, to tell whether the judge's distances mean anything
    examples: the card's prompts as the student draws them, in the order of their grid
    pictures: what `student` and `teacher` drew for the plan's prompts, and the student for the
        card's, `examples`, [N, H, W, 3] each
    """

    model: str
    weights: str
    kappas: list[float] | None
    engine: str
    judge: str
    images: int
    guidance: float | None
    real: Judged
    student: Judged
    teacher: Judged | None
    start: Judged | None
    ranking: Ranking
    prompts: dict[str, Any]
    held_out_prompts: dict[str, Any] | None
    nearest: list[dict[str, Any]]
    examples: list[Example]
    seconds: float
    pictures: dict[str, NDArray[np.uint8]] = field(repr=False, default_factory=dict)

    @property
    def closed(self) -> float | None:
        """The share of the distance from start to teacher that the distillation closed.

        None where one of them did not draw, or the teacher came no nearer than the start.
        """
        if self.start is None or self.teacher is None:
            return None
        start, end = self.start.seen.frechet, self.teacher.seen.frechet
        if end >= start:
            return None
        return (start - self.student.seen.frechet) / (start - end)

    @property
    def ranked(self) -> bool:
        """Whether the judge ranks real < teacher, if it drew, < blurred real, if known, < noise."""
        return self.ranking.holds(self.teacher.seen.frechet if self.teacher else None)

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the pictures, as docs/evaluation.md tells."""
        return {"format": FORMAT, **asdict(replace(self, pictures={}))}


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
    held_out, source = _held_out(folder, reference, options.held_out)
    plan = make_plan(
        reference,
        images=options.images,
        held_out=held_out,
        diverse=folder.card.examples[:DIVERSE],
    )
    if options.brief:
        plan = replace(plan, held_out=[], diverse=[])
    hearing = _Hearing(judge, reference, plan, PictureStore(store))
    generator = Generator.load(folder.path, engine=options.engine)
    many = ManyStepTeacher(teacher_of(folder)) if options.teacher else None
    spec = generator.engine.spec
    identity, draw = f"student:{spec.weights}:{spec.name}", partial(_draw_student, generator)
    student, pictures, features = hearing.hear(identity, draw)
    shown = {"student": pictures}
    if asked := shuffled(folder.card.examples):
        shown["examples"] = hearing.store.pictures(identity, asked, [0] * len(asked), draw)
    examples = judge.see(shown["examples"]) if asked else features[:0]
    start, teacher, guidance = None, None, None
    if options.start:
        start = hearing.hear(*_start(folder, generator))[0]
    if many is not None:
        guidance = options.guidance
        if guidance is None:
            guidance = hearing.best_guidance(many)
        teacher, shown["teacher"], _ = hearing.hear(*_teacher(many, guidance))
    return Quality(
        model=folder.card.name,
        weights=folder.card.weights,
        kappas=kappas_of(folder.card),
        engine=spec.name,
        judge=sha256(judge_folder / WEIGHTS),
        images=options.images,
        guidance=guidance,
        real=hearing.judged(plan.yardstick),
        student=student,
        teacher=teacher,
        start=start,
        ranking=rank(judge, plan),
        prompts={**told_prompts(plan.prompts, SOURCE), "first": plan.prompts[:SHOWN]},
        held_out_prompts=told_prompts(plan.held_out, source) if plan.held_out else None,
        nearest=_nearest(features[:NEAREST], plan.prompts, reference),
        examples=name_examples(judge, reference, examples, asked),
        seconds=round(time.perf_counter() - began, 1),
        pictures=shown,
    )


@dataclass(frozen=True)
class _Hearing:
    """All that is the same for every source of pictures."""

    judge: Judge
    reference: Reference
    plan: Plan
    store: PictureStore

    def hear(self, identity: str, draw: Draw) -> tuple[Judged, NDArray[np.uint8], Features]:
        """Let a source draw everything; return what is said of it, its pictures and features."""
        plan = self.plan
        pictures = self.store.pictures(identity, plan.prompts, plan.seeds, draw)
        features = self.judge.see(pictures)
        held_out = None
        if plan.held_out:
            held = self.store.pictures(identity, plan.held_out, plan.held_out_seeds, draw)
            held_out = fit(self.judge, self.reference, self.judge.see(held), plan.held_out)
        spread = []
        for prompt in plan.diverse:
            seeds = range(FIRST_SEED, FIRST_SEED + SEEDS_EACH)
            same = self.store.pictures(identity, [prompt] * SEEDS_EACH, seeds, draw)
            spread.append(mean_pairwise_distance(self.judge.see(same)))
        diversity = float(np.mean(spread)) if spread else None
        judged = replace(self.judged(features), held_out=held_out, diversity=diversity)
        return judged, pictures, features

    def judged(self, features: Features) -> Judged:
        """Judge pictures of the plan's prompts by their features [N, D]."""
        return Judged(
            distances(features, self.plan.real),
            fit(self.judge, self.reference, features, self.plan.prompts),
            float(np.median(nearest(features, self.plan.real)[1])),
        )

    def best_guidance(self, teacher: ManyStepTeacher) -> float:
        """Find the scale at which a quarter of the pictures comes nearest to the real ones."""
        batch = self.store.batch  # whole ones, which are then part of the whole
        few = slice(0, batch * max(1, round(len(self.plan.prompts) / 4 / batch)))
        apart = {}
        for scale in SCALES:
            identity, draw = _teacher(teacher, scale)
            prompts, seeds = self.plan.prompts[few], self.plan.seeds[few]
            seen = self.judge.see(self.store.pictures(identity, prompts, seeds, draw))
            apart[scale] = distances(seen, self.plan.real).frechet
        return min(apart, key=lambda scale: apart[scale])


def _draw_student(
    generator: Generator, prompts: Sequence[str], seeds: Sequence[int]
) -> NDArray[np.uint8]:
    size = generator.engine.spec.max_batch
    ids, noise = generator.tokenizer(prompts), generator.noise(seeds)
    rows = [slice(start, start + size) for start in range(0, len(prompts), size)]
    return np.concatenate([generator.engine(ids[part], noise[part]) for part in rows])


def _start(folder: ModelFolder, generator: Generator) -> tuple[str, Draw]:
    """Make the generator that the distillation began with: the teacher's UNet, in its steps."""
    path = teacher_of(folder)
    teacher = load_teacher(path)
    networks = (teacher.text_encoder, teacher.unet, teacher.vae)
    module = GeneratorModule(*networks, folder.schedule).eval()
    engine = TorchEngine(module, "cpu", "start", folder)
    began = Generator(folder.card.name, generator.tokenizer, engine)
    told = f"start:{teacher_hash(path)}:{sorted(folder.card.schedule.items())}"
    return f"{told}:{folder.card.steps}", partial(_draw_student, began)


def _teacher(teacher: ManyStepTeacher, scale: float) -> tuple[str, Draw]:
    identity = f"teacher at {scale:g}:{teacher.identity}"
    return identity, partial(teacher.draw, guidance_scale=scale)


def _held_out(
    folder: ModelFolder, reference: Reference, given: Path | None
) -> tuple[list[str], str]:
    """Return held-out prompts, and where they are from."""
    if given:
        return read_held_out(given), given.name
    if (own := folder.path / HELD_OUT).is_file():
        return read_held_out(own), f"the model's {HELD_OUT}"
    return unseen_combinations(reference), "names in styles that they do not have"


def _nearest(
    features: Features, prompts: Sequence[str], reference: Reference
) -> list[dict[str, Any]]:
    """Tell the nearest of all real pictures to each sample."""
    rows, apart = nearest(features, reference.features)
    return [
        {
            "prompt": prompt,
            "nearest": f"{reference.names[row]}, {reference.styles[row]}",
            "row": int(row),
            "distance": round(float(distance), 4),
        }
        for prompt, row, distance in zip(prompts, rows, apart, strict=False)
    ]
