"""A model card tells what was measured, and nothing else."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bench.reports import Report
from distill.presets import PRESETS
from sidestep.errors import InvalidData
from sidestep.model_folder import ModelFolder, write_card
from sidestep.pipeline import card_tables as tables
from sidestep.pipeline.measured import gather
from sidestep.pipeline.model_card import LIMITS, write_model_card
from sidestep.pipeline.options import RunOptions
from sidestep.pipeline.work import card

SEEN = {"pictures": 4, "frechet": 0.05, "precision": 0.9, "recall": 0.8}
FIT = {"prompts": 4, "clip": 0.8, "named": 0.75, "styled": None}
MADE = {"command": "sidestep evaluate", "date": "2026-01-02", "machine": {"cpu": "a CPU"}}


def judged(frechet: float) -> dict[str, Any]:
    return {"seen": {**SEEN, "frechet": frechet}, "fit": FIT, "held_out": None, "diversity": None}


def quality(path: Path, **more: Any) -> Path:
    told = {
        **{"images": 4, "judge": "a" * 64, "guidance": 2.0, "closed": 0.71, "made": MADE},
        **{"student": judged(0.05), "teacher": judged(0.02), "start": judged(0.12)},
        **{"real": judged(0.01), **more},
    }
    path.write_text(json.dumps(told))
    return path


def height(folder: ModelFolder) -> int:
    with Image.open(folder.path / "samples.png") as grid:
        return grid.height


def test_figures_of_the_judge_come_into_the_card_and_the_readme(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    folder = gather(tiny_model, quality(tmp_path / "quality.json"), tmp_path / "absent.json")
    figures = folder.card.quality
    assert figures["frechet"] == 0.05
    assert figures["teacher_frechet"] == 0.02
    assert "held_out_clip" not in figures
    text = write_model_card(folder, teacher=False).read_text()
    assert "| Fréchet distance | 0.01 | 0.12 | 0.05 | 0.02 |" in text
    assert "71% are closed" in text
    assert "`sidestep evaluate`, 2026-01-02, a CPU." in text
    assert "held out" not in text


def test_a_newer_evaluation_leaves_nothing_of_an_older_one(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    known = {"recognised": 0.9, "teacher_recognised": 0.9, "captions": 8, "coco_fid": 9.4}
    folder = write_card(tiny_model.path, replace(tiny_model.card, quality=known))
    folder = gather(folder, quality(tmp_path / "first.json"))
    alone = {"teacher": None, "start": None, "guidance": None, "closed": None}
    folder = gather(folder, quality(tmp_path / "second.json", images=8, **alone))
    figures = folder.card.quality
    assert figures.items() >= known.items()
    assert figures["judged_pictures"] == 8
    assert figures["teacher_guidance"] == 2  # still known, for the samples
    stale = ("start_", "teacher_frechet", "teacher_clip", "closed", "judged_guidance")
    assert not [name for name in figures if name.startswith(stale)]
    text = write_model_card(folder, teacher=False).read_text()
    assert "|  | real pictures | this model |\n" in text
    assert "are closed" not in text


def test_the_judge_is_told_with_the_guidance_that_it_saw(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    folder = gather(tiny_model, quality(tmp_path / "quality.json"))
    folder.card.quality["teacher_guidance"] = 3.0  # which recognition may find better
    assert "| teacher at 2 |" in tables.quality(folder.card)
    del folder.card.quality["judged_guidance"]  # an older card
    assert "| teacher at 3 |" in tables.quality(folder.card)


def test_a_model_too_slow_for_a_median_has_a_card(tiny_model: ModelFolder, tmp_path: Path) -> None:
    row = {"name": "onnx-cpu", "batch": 1, "images_per_s": None}
    row["latency_ms"] = {"p50": None, "p95": None}
    figures = {"contenders": [{"name": "onnx-cpu", "ours": True}]}
    Report("engine", [row], figures=figures).write(tmp_path / "engines.json")
    folder = gather(tiny_model, tmp_path / "engines.json")
    text = write_model_card(folder, teacher=False).read_text()
    assert "| onnx-cpu | 1 | - | - | - |" in text


def test_an_ablation_goes_with_the_model(tiny_model: ModelFolder, tmp_path: Path) -> None:
    rows = [
        {"question": "", "case": "real pictures", "frechet": 0.014, "engine_ms": None},
        {"question": "few steps", "case": "k2", "frechet": 0.036, "engine_ms": 33.4},
        {"question": "formats", "case": "fp32", "frechet": 0.047, "engine_ms": None},
    ]
    report = Report("ablation", rows, settings={"pictures": 256}, notes=["One seed each."])
    report.write(tmp_path / "a.json")
    folder = gather(tiny_model, tmp_path / "a.json")
    (tmp_path / "a.json").unlink()
    text = write_model_card(folder, teacher=False).read_text()
    assert "| k2 | 0.036 | 33.4 |" in text
    assert "Formats:\n\n| case | frechet |\n" in text
    assert "256 pictures of each" in text
    assert "One seed each." in text


def test_an_unmeasured_model_claims_nothing(tiny_model: ModelFolder) -> None:
    killed = tiny_model.path / ".export-x" / "onnx-fp16"
    shutil.copytree(tiny_model.path / "onnx", killed)
    text = write_model_card(tiny_model).read_text()
    assert "onnx-fp16" not in text
    for heading in ("## Quality", "## Latency", "## Ablation"):
        assert heading not in text
    assert "## Engines" in text  # its certificate is there
    assert "its folder does not name one" in text
    assert " ".join(LIMITS.split()) in " ".join(text.split())


@pytest.mark.filterwarnings("ignore::sidestep.tokenizer.PromptCut")  # the tiny model reads little
@pytest.mark.parametrize(("seconds", "told"), [(22540, "6.3 hours"), (90, "2 minutes")])
def test_the_time_of_a_training_is_told(tiny_model: ModelFolder, seconds: float, told: str) -> None:
    quality = {"trained_s": seconds, "trained_on": "a CPU"}
    folder = write_card(tiny_model.path, replace(tiny_model.card, quality=quality))
    text = write_model_card(folder, teacher=False).read_text()
    assert f"| trained | {told} on a CPU |" in text


def test_an_imported_model_names_no_examples(tiny_model: ModelFolder) -> None:
    told = {"method": "SiD-LSG", "teacher": "sd15"}  # what importing wrote once, a base's name
    folder = write_card(tiny_model.path, replace(tiny_model.card, examples=(), recipe=told))
    text = write_model_card(folder, teacher=False).read_text()
    assert "Seed 0, from left: red apple, octopus" in text
    assert ModelFolder.open(folder.path).card.examples == ()


def test_the_grid_has_a_row_for_each_that_draws(tiny_model: ModelFolder, tmp_path: Path) -> None:
    write_model_card(tiny_model)
    alone = height(tiny_model)
    folder = gather(tiny_model, quality(tmp_path / "quality.json"))  # which tells the guidance
    text = write_model_card(folder).read_text()
    assert height(folder) > 1.9 * alone
    assert "50 DDIM steps at guidance 2" in text


def test_the_licence_of_the_weights_is_the_readmes(tiny_model: ModelFolder) -> None:
    card = replace(tiny_model.card, licences={"weights": "CreativeML-OpenRAIL-M"})
    folder = write_card(tiny_model.path, card)
    text = write_model_card(folder, teacher=False).read_text()
    assert "license: creativeml-openrail-m\n" in text
    assert "- weights: CreativeML-OpenRAIL-M" in text


def test_the_papers_results_stand_beside_those_of_its_presets(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    recipe = {**tiny_model.card.recipe, "preset": "sd15"}
    folder = write_card(tiny_model.path, replace(tiny_model.card, recipe=recipe))
    text = write_model_card(folder, teacher=False).read_text()
    assert "not scored yet: sidestep evaluate-coco" in text
    assert "| LSG, κ = 1.5 | 8.71 | 0.302 |" in text
    scores = {"fid": 9.4, "clip": 0.301, "precision": None, "recall": None}
    (tmp_path / "paper.json").write_text(json.dumps({"scores": scores}))
    text = write_model_card(gather(folder, tmp_path / "paper.json"), teacher=False).read_text()
    assert "| **this model** | 9.4 | 0.301 |" in text


def test_figures_of_another_model_are_refused_and_left_out_of_a_run(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    other = quality(tmp_path / "quality.json", weights="b" * 64)
    model = {"name": "b", "weights": "b" * 64, "image_size": [8, 8], "method": "x"}
    Report("engine", [], model=model).write(tmp_path / "engines.json")
    for file in (other, tmp_path / "engines.json"):
        with pytest.raises(InvalidData, match="measured on other weights than those of"):
            gather(tiny_model, file)
    assert "frechet" not in ModelFolder.open(tiny_model.path).card.quality
    scores = {"fid": 9.4, "clip": 0.301, "precision": None, "recall": None}
    mine, theirs = tmp_path / "mine.json", tmp_path / "theirs.json"
    mine.write_text(json.dumps({"scores": scores, "weights": tiny_model.card.weights}))
    theirs.write_text(json.dumps({"scores": {"fid": 1.0}, "weights": "b" * 64}))
    options = RunOptions("sd15", PRESETS["sd15"].options, tiny_model.path, (), tmp_path)
    card(options, tiny_model.path, [mine, theirs, tmp_path / "absent.json"])
    assert ModelFolder.open(tiny_model.path).card.quality["coco_fid"] == 9.4


def test_a_report_without_a_place_in_the_card_is_refused(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    Report("http", []).write(tmp_path / "http.json")
    with pytest.raises(InvalidData, match=r"http\.json is no quality\.json"):
        gather(tiny_model, tmp_path / "http.json")


def test_a_file_of_something_else_is_named(tiny_model: ModelFolder, tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(InvalidData, match=r"notes\.json"):
        gather(tiny_model, tmp_path / "notes.json")
