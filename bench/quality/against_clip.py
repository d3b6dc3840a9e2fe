"""Read several models' results as points of FID against CLIP score over κ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.quality.published import TABLE_3, Row, tables_1_and_2
from sidestep.errors import InvalidData

CLIP_LOST = 0.005
MODELS = ("one step", "measured here")  # the groups of points that are models of ours
Point = dict[str, Any]  # `name` of its group, `label`, `fid`, `clip`


def read_points(files: Sequence[Path]) -> list[Point]:
    """Return a point for each model in quality.json or paper.json, each teacher and the real ones.

    Raises InvalidData for a file that is neither, and for results that do not compare: of other
    judges, or of more or fewer pictures, with which a Fréchet distance falls.
    """
    points: list[Point] = []
    alike: list[dict[str, Any]] = []
    for file in files:
        values = _read(file)
        try:
            alike.append(_alike(values))
            points += _points(values)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidData(f"{file} is damaged ({error!r}); evaluate again") from error
        if differing := [name for name in alike[0] if alike[0][name] != alike[-1][name]]:
            raise InvalidData(
                f"{file} and {files[0]} differ in {' and '.join(differing)}, so their distances do "
                "not compare; evaluate both alike"
            )
    return list({tuple(point.items()): point for point in points}.values())  # a teacher once


def nearest_that_fits(points: Sequence[Point]) -> Point | None:
    """Choose of several one-step models the nearest whose CLIP score is almost the best.

    That is within CLIP_LOST of it, which is also what a student may lose against its teacher.
    """
    models = [point for point in points if point["name"] in MODELS and point["fid"] is not None]
    scored = [point for point in models if point["clip"] is not None]
    enough = max((point["clip"] for point in scored), default=0.0) - CLIP_LOST
    fitting = [point for point in scored if point["clip"] >= enough]
    return min(fitting, key=lambda point: float(point["fid"]), default=None)


def published_points(preset: str) -> list[Point]:
    """Return the paper's points of Tables 1 and 2, and of Stable Diffusion 1.5 those of Table 3."""
    groups = {"published, Tables 1 and 2": tables_1_and_2(preset)}
    if preset == "sd15":
        groups["published, Table 3"] = list(TABLE_3)
    return [
        _point(name, row.label.replace("κ1…κ4 = ", ""), row.fid, row.clip)  # among many, short
        for name, rows in groups.items()
        for row in rows
    ]


def _read(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or not values.keys() & {"student", "scores"}:
            raise ValueError("it has neither a student nor scores")
    except (OSError, ValueError) as error:
        raise InvalidData(
            f"{file} is no quality.json or paper.json ({error}); give what sidestep evaluate or "
            "evaluate-coco wrote"
        ) from error
    return values


def _alike(values: Mapping[str, Any]) -> dict[str, Any]:
    """Take what must be the same where distances are compared."""
    if "scores" in values:
        # A stand-in for people comes third, and has no part in the plot.
        return {"judges": values["extractors"][:2], "pictures": values["scores"]["pictures"]}
    return {"judges": values["judge"], "pictures": values["images"]}


def _points(values: Mapping[str, Any]) -> list[Point]:
    label = _label(values)
    if scores := values.get("scores"):
        return [_point("measured here", label, scores["fid"], scores["clip"])]
    sources = {"student": ("one step", label), "real": ("real pictures", "")}
    if values.get("teacher"):
        sources["teacher"] = ("teacher", f"guidance {values['guidance']:g}")
    return [
        _point(name, said, values[source]["seen"]["frechet"], values[source]["fit"]["clip"])
        for source, (name, said) in sources.items()
    ]


def _label(values: Mapping[str, Any]) -> str:
    """Name a model, with its κ where the file tells it."""
    kappas = values.get("kappas")
    return Row(values["model"], tuple(kappas)).label if kappas else str(values["model"])


def _point(name: str, label: str, fid: float | None, clip: float | None) -> Point:
    return {"name": name, "label": label, "fid": fid, "clip": clip}
