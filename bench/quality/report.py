"""Write what was measured: quality.json, quality.md and grids of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.markdown import table
from bench.quality.against_clip import CLIP_LOST
from bench.quality.evaluate import SHOWN
from bench.quality.examples import save_examples
from bench.quality.made import how_made
from bench.quality.result import Judged, Quality
from distill.progress import save_grid
from sidestep.files import write_bytes, write_json

COLUMNS = 16
ROWS = SHOWN // COLUMNS  # of the sample grid, each once per source
GOAL_TIMES = 3.0

# name, where it stands in `Judged`, format
_LINES = (
    ("Fréchet distance", "seen.frechet", ".4f"),
    ("precision", "seen.precision", ".3f"),
    ("recall", "seen.recall", ".3f"),
    ("CLIP score", "fit.clip", ".3f"),
    ("named, top 3 of all names", "fit.named", ".1%"),
    ("style right", "fit.styled", ".1%"),
    ("CLIP score, held out", "held_out.clip", ".3f"),
    ("named, held out", "held_out.named", ".1%"),
    ("style right, held out", "held_out.styled", ".1%"),
    ("diversity", "diversity", ".3f"),
    ("distance to the nearest real picture", "nearest", ".3f"),
)


def write_report(
    quality: Quality, out: Path, *, command: str, real: NDArray[np.uint8] | None = None
) -> Path:
    """Write everything into `out` and return the path of `quality.md`.

    real: all real pictures in the reference's order, for the grid of nearest ones
    """
    values = {
        **quality.as_dict(),
        "closed": quality.closed,
        "ranked": quality.ranked,
        "goals": goals(quality),
        "made": how_made(command),
    }
    write_json(out / "quality.json", values)
    samples = [list(quality.pictures[name]) for name in _sources(quality)]
    rows = [
        pictures[row * COLUMNS : (row + 1) * COLUMNS]
        for row in range(ROWS)
        for pictures in samples
        if pictures[row * COLUMNS :]
    ]
    if rows:  # a brief evaluation shows none
        save_grid(out / "samples.png", rows)
    if quality.examples:
        save_examples(out / "examples.png", quality.pictures["examples"])
    if real is not None and quality.nearest:
        pairs = [samples[0][: len(quality.nearest)], [real[n["row"]] for n in quality.nearest]]
        save_grid(out / "nearest.png", pairs)
    path = out / "quality.md"
    write_bytes(path, _markdown(quality, command).encode())
    return path


def goals(quality: Quality) -> dict[str, dict[str, Any]]:
    """Compare with what was aimed at: of each goal its figure, its bound and whether it is met."""
    if quality.teacher is None:
        return {}
    real, teacher, student = quality.real, quality.teacher, quality.student
    times = teacher.seen.frechet / real.seen.frechet
    return {
        "teacher's distance, in distances of real halves": _goal(times, GOAL_TIMES),
        "student's distance, in teacher's": _goal(student.seen.frechet / teacher.seen.frechet, 1.0),
        "CLIP score lost": _goal(teacher.fit.clip - student.fit.clip, CLIP_LOST),
    }


def _goal(value: float, at_most: float) -> dict[str, Any]:
    return {"value": round(value, 4), "at_most": at_most, "met": value <= at_most}


def _markdown(quality: Quality, command: str) -> str:
    sources = {"real pictures": quality.real, "student, 1 step": quality.student}
    if quality.start:
        sources["before the first update"] = quality.start
    if quality.teacher:
        sources[f"teacher, 50 steps at {quality.guidance:g}"] = quality.teacher
    rows = [
        [name, *(_cell(judged, where, form) for judged in sources.values())]
        for name, where, form in _LINES
    ]
    verdicts = [
        f"- {name}: {goal['value']:.3f}, at most {goal['at_most']:g}: "
        f"{'met' if goal['met'] else 'missed'}"
        for name, goal in goals(quality).items()
    ]
    if quality.closed is not None:
        verdicts.append(f"- of the distance from start to teacher {quality.closed:.0%} are closed")
    shown = _sources(quality)
    near = [[one["prompt"], one["nearest"], f"{one['distance']:.3f}"] for one in quality.nearest]
    parts = [
        f"# {quality.model}: {quality.images:,} pictures",
        f"`{command}`: weights `{quality.weights[:16]}`, engine {quality.engine}, "
        f"judge `{quality.judge[:16]}`, {quality.seconds:g} s.",
        table(["", *sources], rows),
        _ranked(quality),
        "\n".join(verdicts),
        f"![Rows in turn: {', '.join(shown)}.](samples.png)" if shown else "",
        _examples(quality),
        table(["sample", "nearest training picture", "distance"], near) if near else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _sources(quality: Quality) -> list[str]:
    """Name those who drew the first prompts."""
    return [name for name in quality.pictures if name != "examples"]


def _examples(quality: Quality) -> str:
    """Tell which of the card's prompts the judge names, without what would help a person to."""
    if not quality.examples:
        return ""
    named = sum(example.named for example in quality.examples)
    ranks = ", ".join(f"{one.number}: {one.rank + 1}" for one in quality.examples)
    return (
        f"Of the {len(quality.examples)} prompts of the model's card, one picture each at seed 0, "
        f"the judge has {named} among its first three of all names (number and place: {ranks}).\n\n"
        "![Numbered pictures without their prompts.](examples.png)\n\n"
        "Let somebody name these who has not seen the prompts; `examples` in quality.json has them."
    )


def _ranked(quality: Quality) -> str:
    """Write all distances in their order, and whether that is what a judge must find."""
    ranking = quality.ranking
    told = {
        "real": ranking.real,
        "student": quality.student.seen.frechet,
        "teacher": quality.teacher.seen.frechet if quality.teacher else None,
        "blurred real": ranking.blurred,
        "noise": ranking.noise,
    }
    known = sorted((apart, name) for name, apart in told.items() if apart is not None)
    order = " < ".join(f"{name} {apart:.4f}" for apart, name in known)
    must = [name for name in told if name != "student" and told[name] is not None]
    verdict = (
        "as a judge must"
        if quality.ranked
        else f"**not as a judge must, {' < '.join(must)}: its distances mean little here**"
    )
    return f"Ranked by Fréchet distance, {ranking.pictures:,} pictures each: {order}; {verdict}."


def _cell(judged: Judged, where: str, form: str) -> str:
    value: Any = judged
    for name in where.split("."):
        value = getattr(value, name, None)  # what was not measured has no parts
    return "" if value is None else format(value, form)
