from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.quality import judge_training
from bench.quality.judge import Judge, Reference
from bench.quality.judge_data import Caption, Labelled, draw_batch, in_order_of, label
from bench.quality.judge_training import JudgeOptions, contrastive_loss, train_judge
from bench.quality.protocol import halves, make_plan
from bench.quality.ranking import Ranking, rank
from bench.quality.similarity import rank_of_own
from bench.quality.spoiling import blur_least
from distill.emoji_data import EmojiSet
from sidestep.cli.main import main
from sidestep.errors import InvalidData, InvalidModel, InvalidTraining


def test_the_nearest_pictures_are_shown_of_the_judges_own_set(
    tiny_judge: Path, world: Labelled
) -> None:
    reference = Reference.load(tiny_judge)
    assert in_order_of(reference, world) is world.pictures
    kept = slice(1, None)
    fewer = Labelled(world.pictures[kept], world.names[kept], world.styles[kept], world.test[kept])
    with pytest.raises(InvalidData, match="11 pictures of --data are not the 12"):
        in_order_of(reference, fewer)


def test_it_learns_names_and_styles(tiny_judge: Path, world: Labelled) -> None:
    judge = Judge.load(tiny_judge)
    names = sorted(set(world.names))
    own = np.array([names.index(name) for name in world.names])
    ranks = rank_of_own(judge.see(world.pictures), judge.read(names), own)
    assert (ranks == 0).sum() >= 10  # of 12
    measured = json.loads((tiny_judge / "judge.json").read_text())["measured"]
    assert measured["test_pictures"] == 1
    assert measured["names"] == 6


def test_features_are_unit_vectors_whatever_the_size_of_a_picture(
    tiny_judge: Path, world: Labelled
) -> None:
    judge = Judge.load(tiny_judge)
    seen = judge.see(world.pictures)
    assert seen.shape == (12, 16)
    assert np.linalg.norm(seen, axis=1) == pytest.approx(np.ones(12), abs=1e-5)
    larger = world.pictures.repeat(3, axis=1).repeat(3, axis=2)
    assert judge.see(larger) == pytest.approx(seen, abs=1e-5)


def test_a_saved_judge_sees_what_it_saw(tiny_judge: Path, world: Labelled) -> None:
    reference = Reference.load(tiny_judge)
    assert reference.names == world.names
    assert reference.styles == world.styles
    assert (reference.test == world.test).all()
    seen = Judge.load(tiny_judge).see(world.pictures)
    assert reference.features == pytest.approx(seen, abs=1e-3)  # fp16


def test_it_ranks_real_pictures_before_blurred_ones_and_noise(
    tiny_judge: Path, world: Labelled
) -> None:
    judge, reference = Judge.load(tiny_judge), Reference.load(tiny_judge)
    first = halves(len(world.names))[0]
    blurred = judge.see(blur_least(world.pictures[first]))
    assert reference.blurred == pytest.approx(blurred, abs=1e-3)
    told = Ranking(**json.loads((tiny_judge / "judge.json").read_text())["ranking"])
    assert told.pictures == 6
    assert told.holds()
    plan = make_plan(reference, images=6, held_out=[], diverse=[])
    again = rank(judge, plan)
    assert (again.real, again.noise) == pytest.approx((told.real, told.noise), abs=1e-3)
    assert again.blurred == pytest.approx(told.blurred, abs=1e-3)
    spoiled = rank(judge, replace(plan, yardstick=plan.blurred, blurred=plan.yardstick))
    assert not spoiled.holds()


def test_the_command_tells_how_it_ranks(
    write_bundle: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_bundle([f"thing-{number}" for number in range(40)], synonyms={})
    main(
        ["train-judge", "--data", str(data), "--out", str(tmp_path), "--steps", "1", "--batch", "8"]
    )
    told = json.loads((tmp_path / "judge" / "judge.json").read_text())["ranking"]
    line = f"of 40 pictures: real {told['real']:.4f}, blurred {told['blurred']:.4f}, noise "
    assert line in capsys.readouterr().out


def test_a_judge_from_before_its_blurred_pictures_were_kept(
    tiny_judge: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_judge, tmp_path / "judge")
    replace(Reference.load(folder), blurred=None).save(folder / "reference.safetensors")
    (folder / "judge.json").unlink()
    reference = Reference.load(folder)
    assert reference.blurred is None
    plan = make_plan(reference, images=6, held_out=[], diverse=[])
    found = rank(Judge.load(folder), plan)
    assert found.blurred is None
    assert found.holds()
    assert found.holds(teacher=(found.real + found.noise) / 2)
    assert not found.holds(teacher=found.noise + 1)


def test_the_least_blur_is_a_gaussian_of_one_pixel() -> None:
    """By hand: a black dot on white, whatever the size of the picture."""
    dot = np.full((2, 128, 128, 3), 255, np.uint8)
    dot[0, 64, 64] = 0
    blurred = 255 - blur_least(dot).astype(float)
    assert blurred[1].max() == 0
    weights = np.exp(-(np.arange(-3, 4) ** 2) / 2)
    weights /= weights.sum()
    by_hand = 255 * np.outer(weights, weights)
    assert blurred[0, 61:68, 61:68, 1] == pytest.approx(by_hand, abs=0.51)


def test_a_training_that_was_stopped_ends_as_an_unbroken_one(
    world: Labelled, judge_options: JudgeOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(judge_options, steps=4)
    train_judge(world, tmp_path / "whole", tmp_path / "whole" / "judge", options)

    def stop_at_the_third(*arguments: Any, **settings: Any) -> Any:
        if next(drawn) == 3:
            raise KeyboardInterrupt
        return draw_batch(*arguments, **settings)

    drawn = count(1)
    monkeypatch.setattr(judge_training, "SAVE_EVERY", 2)
    monkeypatch.setattr(judge_training, "draw_batch", stop_at_the_third)
    run = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        train_judge(world, run, run / "judge", options)
    assert not (run / "judge").exists()
    train_judge(world, run, run / "judge", options)
    assert next(drawn) == 6  # two batches before the stop, and two after it
    for file in ("open_clip_model.safetensors", "reference.safetensors", "judge.json"):
        whole = (tmp_path / "whole" / "judge" / file).read_bytes()
        assert (run / "judge" / file).read_bytes() == whole


def test_another_run_is_not_gone_on_with(
    world: Labelled, judge_options: JudgeOptions, tmp_path: Path
) -> None:
    train_judge(world, tmp_path, tmp_path / "judge", replace(judge_options, steps=1))
    with pytest.raises(InvalidTraining, match="steps"):
        train_judge(world, tmp_path, tmp_path / "judge", replace(judge_options, steps=2))
    others = replace(world, names=[f"new {name}" for name in world.names])
    with pytest.raises(InvalidTraining, match=r"other options: words .*choose another --out"):
        train_judge(others, tmp_path, tmp_path / "judge", replace(judge_options, steps=1))


def test_pictures_of_another_size_are_refused(
    world: Labelled, judge_options: JudgeOptions, tmp_path: Path
) -> None:
    with pytest.raises(InvalidData, match="32 pixels per side, the judge sees 64"):
        train_judge(world, tmp_path, tmp_path / "judge", replace(judge_options, size_px=64))


def test_captions_say_what_is_true() -> None:
    picture = Caption("red apple", "noto", "blurred")
    assert str(picture) == "red apple, noto, blurred"
    assert Caption("red apple", None, "blurred").is_true_of(picture)
    assert picture.is_true_of(picture)
    for wrong in (
        Caption("pear", None, "blurred"),
        Caption("red apple", "flat", "blurred"),
        Caption("red apple", "noto"),
        Caption("red apple", "noto", "noisy"),
    ):
        assert not wrong.is_true_of(picture)


def test_a_batch_shows_names_in_several_styles_and_is_drawn_alike_from_a_seed(
    world: Labelled,
) -> None:
    batches = [
        draw_batch([(world, 12)], torch.Generator().manual_seed(3), styles_each=2, spoiled=0.5)
        for _ in range(2)
    ]
    (pictures, texts, match), again = batches
    assert torch.equal(pictures, again[0])
    assert texts == again[1]
    assert pictures.shape == (11, 3, 32, 32)  # the red heart has one training picture
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert match.diagonal().all()
    assert any(text.endswith(("blurred", "noisy", "distorted")) for text in texts)
    spoiled = {text.rpartition(", ")[2] for text in texts} & {"blurred", "noisy", "distorted"}
    assert spoiled


def test_a_batch_is_drawn_from_all_parts_by_their_shares(world: Labelled) -> None:
    other = replace(world, names=[f"other {name}" for name in world.names])
    draw = torch.Generator().manual_seed(3)
    _, texts, match = draw_batch([(world, 6), (other, 4)], draw, styles_each=1, spoiled=0.0)
    assert [text.startswith("other ") for text in texts] == 6 * [False] + 4 * [True]
    assert match.shape == (10, 10)


def test_the_loss_against_every_true_text() -> None:
    """By hand: one picture with two true texts of three, logits 0, ln 2 and 0."""
    logits = torch.tensor([[0.0, 2.0**0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    match = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    losses = []
    for scores in (logits, logits.T):
        rows = scores.log_softmax(dim=1)
        by_hand = [(rows[0, 0] + rows[0, 1]) / 2, (rows[1, 0] + rows[1, 1]) / 2, rows[2, 2]]
        losses.append(-torch.stack(by_hand).mean())
    assert contrastive_loss(logits, match) == pytest.approx(float(sum(losses)) / 2)


def test_a_twentieth_is_left_out_and_no_name_is_lost() -> None:
    names = [f"thing-{number}" for number in range(400)]
    picture = np.zeros((400, 2, 2, 3), np.uint8)
    sets = [EmojiSet(style, names, picture) for style in ("noto", "flat")]
    data = label([*sets, EmojiSet("alone", ["only-here"], picture[:1])])
    assert 20 <= data.test.sum() <= 60  # 40 of 801 in the mean
    kept = {name for name, test in zip(data.names, data.test, strict=True) if not test}
    assert kept == set(data.names)
    fewer = label(sets)
    assert (fewer.test == data.test[:800]).all()


@pytest.mark.parametrize(
    "file", ["open_clip_config.json", "open_clip_model.safetensors", "tokenizer/vocab.json"]
)
def test_a_damaged_judge_is_named(file: str, tiny_judge: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_judge, tmp_path / "judge")
    (folder / file).write_bytes(b"{")
    with pytest.raises(InvalidModel, match="judge"):
        Judge.load(folder)
    (folder / file).unlink()
    with pytest.raises(InvalidModel, match="judge"):
        Judge.load(folder)


def test_a_damaged_reference_is_named(tiny_judge: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_judge, tmp_path / "judge")
    (folder / "reference.safetensors").write_bytes(b"{")
    with pytest.raises(InvalidModel, match=r"reference\.safetensors"):
        Reference.load(folder)
