"""The ablation distils what its cases say, judges all alike and goes on where it stopped."""

from __future__ import annotations

import copy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from bench import ablation
from bench.markdown import report_text
from bench.quality.evaluate import EvaluateOptions
from distill.checkpoints import Checkpoint
from distill.folders import Teacher, load_teacher, write_teacher
from distill.guidance import strategy
from distill.real_pictures import RealLatents, encode_real
from distill.student import identity_of
from sidestep.errors import InvalidRequest
from sidestep.model_folder import ModelFolder, write_card


def test_cases_differ_in_what_they_ask_and_see_as_many_images() -> None:
    real = Path("data/emoji")
    recipes = {name: case.options(3840, real) for name, case in ablation.CASES.items()}
    assert {r.iterations * r.batch for r in recipes.values()} == {3840}
    assert recipes["b8"].iterations == 480
    assert recipes["long"].guidance == strategy("long", 3)
    assert recipes["t354"].init_timestep == 354
    assert recipes["fp16"].precision == "fp16"
    assert recipes["k4"].steps == 4
    with_real = {name for name, recipe in recipes.items() if recipe.real_images}
    assert with_real == {name for name in ablation.CASES if "adversarial" in name}
    assert recipes["adversarial-10x"].adversarial_weight == pytest.approx(0.01)
    assert len({repr(recipe.identity) for recipe in recipes.values()}) == len(recipes)


def test_adversarial_cases_need_real_pictures(tmp_path: Path) -> None:
    assert "adversarial" not in ablation.names(None)
    assert "adversarial" in ablation.names(tmp_path)
    with pytest.raises(InvalidRequest, match="the cases adversarial need --real-images"):
        ablation.train(tmp_path, [], tmp_path / "runs", ["k2", "adversarial"], images=64)
    assert not (tmp_path / "runs").exists()


def test_a_student_of_fewer_images_is_not_taken_for_a_finished_one(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(tiny_model.path, runs / "lsg1.5" / "model")
    recipe = {"images_seen": 64, "prompts": 2}
    write_card(runs / "lsg1.5" / "model", replace(tiny_model.card, recipe=recipe))
    prompts = ["red apple", "octopus"]
    models = ablation.train(tmp_path, prompts, runs, ["lsg1.5"], images=64)
    assert models == {"lsg1.5": runs / "lsg1.5" / "model"}
    with pytest.raises(InvalidRequest, match="distilled with images_seen 64, not 128"):
        ablation.train(tmp_path, prompts, runs, ["none", "lsg1.5"], images=128)
    with pytest.raises(InvalidRequest, match="distilled with prompts 2, not 1"):
        ablation.train(tmp_path, prompts[:1], runs, ["lsg1.5"], images=64)
    assert not (runs / "none").exists()


def finish(model: ModelFolder, run: Path, identity: dict[str, Any]) -> None:
    """Put a model and its last checkpoint where a case of two prompts and 64 images has them."""
    Checkpoint(run, {}, {}, identity).save(2)
    shutil.copytree(model.path, run / "model")
    recipe = {"images_seen": 64, "prompts": 2}
    write_card(run / "model", replace(model.card, recipe=recipe))


def test_a_student_distilled_otherwise_is_not_taken_for_a_finished_one(
    tiny_model: ModelFolder,
    tiny_teacher: Teacher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs, prompts = tmp_path / "runs", ["red apple", "octopus"]
    write_teacher(tmp_path / "teacher", tiny_teacher)
    identity = identity_of(load_teacher(tmp_path / "teacher"), prompts)
    recipe = ablation.CASES["lsg1.5"].options(64)
    off = {"adversarial_weight": recipe.adversarial_weight}  # which versions once kept as well
    finish(tiny_model, runs / "lsg1.5", {**recipe.identity, **identity, **off})
    assert ablation.train(tmp_path / "teacher", prompts, runs, ["lsg1.5"], images=64)
    with pytest.raises(InvalidRequest, match="distilled with other prompts; choose"):
        ablation.train(tmp_path / "teacher", prompts[::-1], runs, ["lsg1.5"], images=64)
    unet = copy.deepcopy(tiny_teacher.unet)
    with torch.no_grad():
        unet.conv_out.weight.mul_(1.5)
    write_teacher(tmp_path / "other", replace(tiny_teacher, unet=unet))
    with pytest.raises(InvalidRequest, match="distilled with another teacher; choose"):
        ablation.train(tmp_path / "other", prompts, runs, ["lsg1.5"], images=64)
    schedule = {**tiny_teacher.schedule, "prediction_type": "v_prediction"}
    write_teacher(tmp_path / "v", replace(tiny_teacher, schedule=schedule))
    with pytest.raises(InvalidRequest, match="with another schedule; "):
        ablation.train(tmp_path / "v", prompts, runs, ["lsg1.5"], images=64)
    of_v = identity_of(load_teacher(tmp_path / "v"), prompts)
    Checkpoint(runs / "lsg1.5", {}, {}, {**recipe.identity, **of_v}).save(3)
    with pytest.raises(InvalidRequest, match="with another schedule; "):
        ablation.train(tmp_path / "teacher", prompts, runs, ["lsg1.5"], images=64)
    Checkpoint(runs / "lsg1.5", {}, {}, {**recipe.identity, **identity}).save(4)
    changed = ablation.Case("", strategy("lsg", 3), {"learning_rate": 1e-3})
    monkeypatch.setitem(ablation.CASES, "lsg1.5", changed)
    with pytest.raises(InvalidRequest, match="with another guidance and another learning_rate; "):
        ablation.train(tmp_path / "teacher", prompts, runs, ["lsg1.5"], images=64)


def test_a_student_of_other_real_pictures_is_not_taken_for_a_finished_one(
    tiny_model: ModelFolder, tiny_teacher: Teacher, tmp_path: Path
) -> None:
    runs, prompts = tmp_path / "runs", ["red apple", "octopus"]
    for name, side, colour in (("real", 16, "red"), ("other", 20, "blue")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (side, side), colour).save(tmp_path / name / "a.png")
    write_teacher(tmp_path / "teacher", tiny_teacher)
    teacher, run, cpu = (
        load_teacher(tmp_path / "teacher"),
        runs / "adversarial",
        torch.device("cpu"),
    )
    size = teacher.image_size
    latents = encode_real(tmp_path / "real", teacher.vae, size, run, device=cpu)
    identity = {
        **ablation.CASES["adversarial"].options(64, tmp_path / "real").identity,
        **identity_of(teacher, prompts),
        "real_images": RealLatents(latents, seed=0, device=cpu).identity,
    }
    finish(tiny_model, run, identity)

    def train(real_images: str) -> dict[str, Path]:
        return ablation.train(
            tmp_path / "teacher",
            prompts,
            runs,
            ["adversarial"],
            images=64,
            real_images=tmp_path / real_images,
        )

    assert train("real")
    with pytest.raises(InvalidRequest, match="distilled with other real pictures; choose"):
        train("other")
    encode_real(tmp_path / "other", teacher.vae, size, run, device=cpu)  # as a refused run does
    with pytest.raises(InvalidRequest, match="distilled with other real pictures; choose"):
        train("other")
    for file in run.glob("real-*"):
        file.unlink()
    assert train("other")  # nothing is left to tell by


def test_cases_of_several_steps_are_timed_beside_the_first() -> None:
    assert ablation.timed(["lsg1.5", "none", "k2"]) == ["lsg1.5", "k2"]
    assert ablation.timed(["lsg1.5", "none"]) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sidestep.tokenizer.PromptCut")  # the tiny teacher reads little
def test_an_ablation_judges_every_case_beside_the_teacher(
    tiny_teacher: Teacher, tmp_path: Path
) -> None:
    write_teacher(tmp_path / "teacher", tiny_teacher)
    names = ["lsg1.5", "none"]
    prompts = ["red apple", "octopus"]
    arguments = (tmp_path / "teacher", prompts, tmp_path / "runs", names)
    models = ablation.train(*arguments, images=64)
    weights = {name: ModelFolder.open(model).card.weights for name, model in models.items()}
    assert weights["none"] != weights["lsg1.5"]
    changed = (models["none"] / "unet" / "config.json").stat().st_mtime_ns
    ablation.train(*arguments, images=64)
    assert (models["none"] / "unet" / "config.json").stat().st_mtime_ns == changed

    options = EvaluateOptions(images=8, engine="pytorch", guidance=2)
    milliseconds = ablation.engine_ms(models, calls=2)
    qualities = ablation.judge(models, tmp_path / "pictures", options)
    report = ablation.report(qualities, milliseconds)
    assert report.rows[0]["engine_ms"] is None
    assert report.rows[-1]["engine_ms"] == pytest.approx(milliseconds["none"], rel=1e-3)
    assert [row["case"] for row in report.rows][:4] == [
        *("real pictures", "teacher, 50 steps at 2", "lsg1.5", "none")
    ]
    assert report.rows[0]["frechet"] < report.rows[2]["frechet"]
    assert "| none |" in report_text(report)
    ablation.save_pictures(models, tmp_path / "grid.png")
    assert (tmp_path / "grid.png").read_bytes()[:4] == b"\x89PNG"
