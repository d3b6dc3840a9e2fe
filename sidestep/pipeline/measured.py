"""Bring what the stages measured into a model's card, which then knows it by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.reports import Report
from sidestep.errors import InvalidData, InvalidModel
from sidestep.model_folder import ModelFolder, write_card

# figure in the card -> where it stands in `bench.quality.evaluate.Judged`
_JUDGED = {
    "frechet": ("seen", "frechet"),
    "precision": ("seen", "precision"),
    "recall": ("seen", "recall"),
    "clip": ("fit", "clip"),
    "named": ("fit", "named"),
    "styled": ("fit", "styled"),
    "held_out_clip": ("held_out", "clip"),
    "held_out_named": ("held_out", "named"),
    "diversity": ("diversity",),
}
# whose figures -> how their names begin
SOURCES = {"student": "", "teacher": "teacher_", "start": "start_", "real": "real_"}
ABLATIONS = "ablations"  # folder of a model with reports of other students of its teacher


def gather(folder: ModelFolder, *files: Path) -> ModelFolder:
    """Take over what was measured; files that are not there are passed over.

    files: a quality.json, a paper.json, reports of `sidestep bench engine` and `ablation`, in any
        order; an ablation's stays a file of its own, in `ablations/`
    Raises InvalidData for a file that is none of them, or was measured on other weights, and
    InvalidModel for a damaged model.
    """
    folder.check_beside(ABLATIONS)
    quality, latency = dict(folder.card.quality), folder.card.latency
    for file in filter(Path.is_file, files):
        if not is_of(folder, file):
            raise InvalidData(f"{file} was measured on other weights than those of {folder.path}")
        told = _read(file)
        if "student" in told:
            quality = _without_judged(quality) | judged_figures(told)
        elif "scores" in told:
            quality |= {f"coco_{name}": value for name, value in told["scores"].items()}
        elif told.get("kind") == "ablation":
            Report.read(file).write(folder.path / ABLATIONS / file.name)
        elif told.get("kind") == "engine":
            latency = latency_of(Report.read(file))
        else:
            raise InvalidData(f"{file} is no quality.json, paper.json or report for a card")
    return write_card(folder.path, replace(folder.card, quality=quality, latency=latency))


def is_of(folder: ModelFolder, file: Path) -> bool:
    """Tell whether a file was measured on a folder's weights, with either decoder.

    An ablation is of other students, and names no weights.
    """
    told = _read(file)
    model = told.get("model")  # a report's; elsewhere its name
    weights = model.get("weights") if isinstance(model, dict) else told.get("weights")
    if weights in (None, folder.card.weights):
        return True
    with suppress(InvalidModel):  # where there is no small decoder
        return bool(weights == folder.with_decoder("small").card.weights)
    return False


def judged_figures(quality: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a quality.json: `frechet`, `teacher_frechet`, ... and how they came about."""
    figures: dict[str, Any] = {"judged_pictures": quality["images"], "judge": quality["judge"]}
    for source, prefix in SOURCES.items():
        for name, where in _JUDGED.items():
            value: Any = quality.get(source)
            for part in where:
                value = (value or {}).get(part)
            if value is not None:
                figures[prefix + name] = float(f"{value:.4g}")
    if quality["guidance"] is not None:
        # The first may be found anew by other eyes; the second is what these figures were drawn at.
        figures["teacher_guidance"] = figures["judged_guidance"] = quality["guidance"]
    if quality["closed"] is not None:
        figures["closed"] = round(quality["closed"], 3)
    made = quality["made"]
    told = {"command": made["command"], "date": made["date"], "machine": made["machine"]["cpu"]}
    return {**figures, "judged_by": told}


def _without_judged(quality: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what an evaluation before told, of which the next may not tell everything."""
    figures = {prefix + name for prefix in SOURCES.values() for name in _JUDGED}
    told = {*figures, "judged_pictures", "judge", "judged_guidance", "closed", "judged_by"}
    return {name: value for name, value in quality.items() if name not in told}


def latency_of(report: Report) -> dict[str, Any]:
    """Take a report of `sidestep bench engine` for the card, without others' rows."""
    ours = {told["name"] for told in report.figures["contenders"] if told["ours"]}
    rows = [
        {
            "engine": row["name"],
            "batch": row["batch"],
            "p50_ms": row["latency_ms"]["p50"] and row["latency_ms"]["p50"]["value"],
            "p95_ms": row["latency_ms"]["p95"] and row["latency_ms"]["p95"]["value"],
            "images_per_s": row["images_per_s"] and row["images_per_s"]["value"],
        }
        for row in report.rows
        if row["name"] in ours
    ]
    gpus = [gpu["name"] for gpu in report.machine["gpus"]]
    return {
        "command": report.command,
        "date": report.date[:10],
        "machine": ", ".join(gpus) or report.machine["cpu"],
        "cores": report.machine["cores"],
        "invalid_because": list(report.invalid_because),
        "rows": rows,
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidData(f"{path} cannot be read as JSON ({error})") from error
    return values if isinstance(values, dict) else {}
