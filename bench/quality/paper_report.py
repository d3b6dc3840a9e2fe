"""Draw COCO's captions, score the pictures, and write the paper's tables with our row in them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.markdown import table
from bench.quality.coco import PICTURES, TEXTS
from bench.quality.made import how_made, kappas_of, told_kappas, told_prompts
from bench.quality.paper import PaperScores, Reads, Sees, check_prepared, score
from bench.quality.picture_files import list_pictures
from bench.quality.preference import Prefers, mean_preference
from bench.quality.published import TABLE_3, Row, tables_1_and_2
from sidestep.errors import InvalidData
from sidestep.files import write_bytes, write_json
from sidestep.generator import Generator
from sidestep.model_folder import ModelFolder
from sidestep.series import Series, draw_series, is_first_process, wait_for_series

Extractors = tuple[Sees, Reads]  # for the distances, and for the CLIP score


@dataclass(frozen=True)
class CocoOptions:
    """What is drawn and written.

    model: a folder, the embedded model if absent; coco: a prepared folder
    preset: whose published results stand in the table; command: how this was called
    apart: whether each model, engine and list of captions has a folder of pictures of its own, and
        not OUT/pictures, which takes those of one
    """

    model: Path | None
    coco: Path
    out: Path
    engine: str = "auto"
    batch: int = 16
    preset: str = "sd15"
    command: str = ""
    apart: bool = False


def evaluate_coco(
    options: CocoOptions,
    extractors: Callable[[], Extractors],
    preference: Callable[[], Prefers] | None = None,
) -> str | None:
    """Draw what is not drawn yet, score it, write OUT/paper.json and paper.md; return the latter.

    extractors, preference: opened in the process that scores, the first of torchrun's; others
    return None. The files are written before the preference, which takes longest, and again after.
    Raises InvalidData for a folder that is not prepared, or where `out` is `coco`, before anything
    is drawn.
    """
    captions = check_prepared(options.coco)
    _check_apart(options)
    series = Series.of(captions, range(len(captions)))
    opened = extractors() if is_first_process() else None
    prefers = preference() if preference and opened else None
    folder = ModelFolder.open(options.model)
    generator = Generator.load(folder.path, engine=options.engine)
    pictures = options.out / PICTURES
    if options.apart:
        spec = generator.engine.spec
        own = hashlib.sha256(f"{spec.weights} {spec.name} {series.hash()}".encode())
        pictures = options.out / f"pictures-{own.hexdigest()[:8]}"
    draw_series(generator, series, pictures, batch=options.batch)
    if opened is None:
        return None
    wait_for_series(series, pictures)
    scores = score(pictures, captions, options.coco / PICTURES, opened, batch=32)
    drawn = {
        "kappas": kappas_of(folder.card),
        "engine": generator.engine.spec.name,
        "captions": told_prompts(captions, f"{options.coco.name}/{TEXTS}"),
    }
    text = _write(options, folder, drawn, scores, opened)
    if prefers:
        scores = replace(scores, hps=mean_preference(prefers, list_pictures(pictures), captions))
        text = _write(options, folder, drawn, scores, (*opened, prefers))
    return text


def _write(
    options: CocoOptions,
    folder: ModelFolder,
    drawn: Mapping[str, Any],
    scores: PaperScores,
    judges: Sequence[Sees | Prefers],
) -> str:
    values = {
        "format": 1,
        "model": folder.card.name,
        "weights": folder.card.weights,
        **drawn,
        "scores": asdict(scores),
        "extractors": [judge.identity for judge in judges],
        "made": how_made(options.command),
    }
    write_json(options.out / "paper.json", values)
    text = _markdown(options, folder, scores)
    write_bytes(options.out / "paper.md", text.encode())
    return text


def _check_apart(options: CocoOptions) -> None:
    """Raise InvalidData where what is drawn would lie among the real pictures."""
    drawn, real = (folder / PICTURES for folder in (options.out, options.coco))
    if drawn.resolve() == real.resolve():
        raise InvalidData(
            f"--out {options.out} is the folder of --coco, whose pictures are the real ones; "
            "choose another --out"
        )


def _markdown(options: CocoOptions, folder: ModelFolder, scores: PaperScores) -> str:
    ours = f"**{folder.card.name}, κ1…κ4 = {told_kappas(folder.card)}**"
    fewer = "" if scores.pictures == 30_000 else f" ({scores.pictures:,} pictures, not 30,000)"
    head = ["", "FID", "CLIP score", "precision", "recall", "HPSv2"]
    rows = [_row(row) for row in tables_1_and_2(options.preset)]
    rows.append(
        [
            ours + fewer,
            *map(_cell, (scores.fid, scores.clip, scores.precision, scores.recall, scores.hps)),
        ]
    )
    strategies = [_row(row)[:3] for row in TABLE_3]
    strategies.append([ours + fewer, _cell(scores.fid), _cell(scores.clip)])
    return "\n".join(
        [
            f"`{options.command}`",
            "",
            f"Published for {options.preset} (SiD-LSG, Tables 1 and 2; HPSv2 of anime, photo, "
            "concept art, paintings; ours is of COCO's captions):",
            "",
            table(head, rows),
            "",
            "Published for strategies (Table 3: Stable Diffusion 1.5, best FID within 2.56M "
            "images):",
            "",
            table(head[:3], strategies),
            "",
        ]
    )


def _row(row: Row) -> list[str]:
    hps = " / ".join(f"{value:.2f}" for value in row.hps or ())
    cells = [_cell(value) for value in (row.fid, row.clip, row.precision, row.recall)]
    return [row.label, *cells, hps]


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"
