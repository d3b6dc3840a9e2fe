from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bench.quality.against_clip import nearest_that_fits, published_points, read_points
from bench.quality.made import kappas_of
from sidestep.cli.main import main
from sidestep.errors import InvalidData
from sidestep.model_folder import ModelFolder


def judged(frechet: float, clip: float) -> dict[str, Any]:
    return {"seen": {"frechet": frechet}, "fit": {"clip": clip}}


def quality(kappa: float, frechet: float, **changes: Any) -> dict[str, Any]:
    values = {
        "model": "emoji",
        "kappas": [kappa] * 4,
        "judge": "a" * 64,
        "images": 100,
        "guidance": 2.0,
        "student": judged(frechet, 0.8),
        "teacher": judged(0.02, 0.81),
        "real": judged(0.01, 0.83),
    }
    return {**values, **changes}


def paper(kappa: float, **changes: Any) -> dict[str, Any]:
    scores = {"pictures": 30_000, "fid": 9.5, "clip": 0.3}
    values = {"model": "mine", "kappas": [1, 1, 1, kappa], "extractors": ["i", "c"]}
    return {**values, "scores": scores, **changes}


def write(folder: Path, *results: dict[str, Any]) -> list[Path]:
    files = [folder / f"{number}.json" for number in range(len(results))]
    for file, values in zip(files, results, strict=True):
        file.write_text(json.dumps(values))
    return files


def test_students_of_one_teacher_stand_beside_it_and_the_real_pictures(tmp_path: Path) -> None:
    files = write(tmp_path, quality(1.5, 0.04), quality(3, 0.05), quality(2, 0.06, teacher=None))
    points = read_points(files)
    assert [(p["name"], p["label"], p["fid"], p["clip"]) for p in points] == [
        ("one step", "emoji, κ = 1.5", 0.04, 0.8),
        ("real pictures", "", 0.01, 0.83),
        ("teacher", "guidance 2", 0.02, 0.81),
        ("one step", "emoji, κ = 3", 0.05, 0.8),
        ("one step", "emoji, κ = 2", 0.06, 0.8),
    ]


def test_the_nearest_is_chosen_whose_clip_score_is_almost_the_best(tmp_path: Path) -> None:
    """Neither the nearest of all, which fits its prompts less, nor the teacher or real pictures."""
    measured = {1.5: (0.03, 0.794), 3: (0.04, 0.796), 4.5: (0.05, 0.801)}
    files = [quality(kappa, 0.0, student=judged(*figures)) for kappa, figures in measured.items()]
    chosen = nearest_that_fits(read_points(write(tmp_path, *files)))
    assert chosen is not None
    assert chosen["label"] == "emoji, κ = 3"
    assert nearest_that_fits([]) is None


def test_results_from_before_κ_was_told_have_a_name(tmp_path: Path) -> None:
    values = quality(2, 0.04)
    del values["kappas"]
    assert read_points(write(tmp_path, values))[0]["label"] == "emoji"


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        (quality(1, 0.1), quality(2, 0.1, images=99), "pictures"),
        (quality(1, 0.1), quality(2, 0.1, judge="b"), "judges"),
        (quality(1, 0.1), paper(2), "judges and pictures"),
        (paper(1), paper(2, extractors=["i", "d"]), "judges"),
    ],
)
def test_what_does_not_compare_is_refused(
    one: dict[str, Any], other: dict[str, Any], what: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidData, match=rf"1\.json and .*0\.json differ in {what}, so"):
        read_points(write(tmp_path, one, other))


def test_who_prefers_has_no_part_in_it(tmp_path: Path) -> None:
    files = write(tmp_path, paper(1), paper(2, extractors=["i", "c", "hpsv2"]))
    assert [p["label"] for p in read_points(files)] == [
        "mine, κ = 1",
        "mine, κ1…κ4 = 1, 1, 1, 2",
    ]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"scores": {}}', '{"student": {}}'])
def test_other_files_are_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(InvalidData, match=r"other\.json is "):
        read_points([tmp_path / "other.json"])
    with pytest.raises(InvalidData, match=r"nowhere\.json is no"):
        read_points([tmp_path / "nowhere.json"])


def test_κ_is_told_where_the_recipe_has_it(tiny_model: ModelFolder) -> None:
    recipe = {"guidance": {f"kappa{number}": 1 + number / 2 for number in range(1, 5)}}
    assert kappas_of(replace(tiny_model.card, recipe=recipe)) == [1.5, 2, 2.5, 3]
    for unknown in ({}, {"guidance": {"kappa1": 2}}, {"guidance": 2}):
        assert kappas_of(replace(tiny_model.card, recipe=unknown)) is None


def test_the_papers_points_are_those_of_its_tables() -> None:
    assert len(published_points("sd15")) == 4 + 14
    assert [point["label"] for point in published_points("sd21-base")] == [
        f"LSG, κ = {kappa}" for kappa in ("1.5", "2", "3", "4.5")
    ]


def test_the_command_draws_a_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(file) for file in write(tmp_path, paper(1), paper(2))]
    out = tmp_path / "plots" / "plot.png"
    main(["evaluate-plot", *files, "--beside", "sd15", "--out", str(out)])
    assert str(out) in capsys.readouterr().out
    with Image.open(out) as plot:
        assert plot.size == (770, 495)
    with pytest.raises(SystemExit) as refused:
        main(["evaluate-plot", *map(str, write(tmp_path, quality(1, 0.1))), "--beside", "sd15"])
    assert refused.value.code == 2


def test_a_missing_matplotlib_is_told_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SystemExit):
        main(["evaluate-plot", *map(str, write(tmp_path, paper(1))), "--out", str(tmp_path / "a")])
    assert "pip install 'sidestep[plots]'" in capsys.readouterr().err
