from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.quality.judge import Reference
from bench.quality.protocol import halves, make_plan, read_held_out, unseen_combinations
from bench.quality.scores import part
from sidestep.errors import InvalidData

NAMES = ["apple", "apple", "pear", "plum", "plum", "fig", "fig", "nut", "pea", "bean"]
STYLES = ["noto", "flat", "noto", "flat", "noto", "noto", "flat", "noto", "noto", "flat"]


@pytest.fixture
def reference() -> Reference:
    features = np.eye(10, dtype=np.float32)
    return Reference(features, NAMES, STYLES, np.zeros(10, bool))


def test_the_halves_are_for_ever_the_same() -> None:
    first, second = halves(4017)
    assert sorted([*first, *second]) == list(range(4017))
    assert (len(first), len(second)) == (2008, 2009)
    assert (halves(10)[0] == halves(10)[0]).all()
    assert first[:4].tolist() == [1451, 3696, 2900, 847]


def test_a_model_draws_the_captions_of_the_yardstick(reference: Reference) -> None:
    plan = make_plan(reference, images=5, held_out=["a b", "c d"], diverse=["pear"])
    rows = plan.yardstick.argmax(axis=1)
    assert plan.prompts == [f"{NAMES[row]}, {STYLES[row]}" for row in rows]
    assert plan.seeds == [0, 1, 2, 3, 4]
    assert not set(rows) & set(plan.real.argmax(axis=1))
    assert len(plan.real) == 5
    assert not set(plan.seeds) & set(plan.held_out_seeds)


def test_held_out_names_stand_in_neither_half(reference: Reference) -> None:
    plan = make_plan(reference, images=4, held_out=["plum", "pear with fig"], diverse=[])
    rows = [*plan.yardstick.argmax(axis=1), *plan.real.argmax(axis=1)]
    assert not any(NAMES[row] == "plum" for row in rows)
    assert sum(NAMES[row] == "fig" for row in rows) == 2
    assert plan.held_out == ["plum", "pear with fig"]


def test_blurred_pictures_are_the_yardsticks(reference: Reference) -> None:
    """Of the first few of half A alone, less what is held out: so not of any number."""
    blurred = 2 * reference.features[halves(10)[0][:4]]
    some = replace(reference, blurred=blurred)
    plan = make_plan(some, images=4, held_out=[], diverse=[])
    assert plan.blurred is not None
    assert (plan.blurred == 2 * plan.yardstick).all()
    assert make_plan(some, images=5, held_out=[], diverse=[]).blurred is None
    assert make_plan(some, images=4, held_out=["plum"], diverse=[]).blurred is None
    every = replace(reference, blurred=2 * reference.features[halves(10)[0]])
    plan = make_plan(every, images=4, held_out=["plum"], diverse=[])
    assert plan.blurred is not None
    assert (plan.blurred == 2 * plan.yardstick).all()


@pytest.mark.parametrize("images", [0, 3, 6])
def test_numbers_beyond_the_half_are_refused(images: int, reference: Reference) -> None:
    with pytest.raises(InvalidData, match="from 4 to 5"):
        make_plan(reference, images=images, held_out=[], diverse=[])


def test_unseen_combinations_are_names_in_styles_without_a_picture(reference: Reference) -> None:
    expected = ["bean, noto", "nut, flat", "pea, flat", "pear, flat"]
    assert unseen_combinations(reference) == expected


def test_a_prompt_is_parted_at_a_known_style_alone() -> None:
    assert part("red apple, noto", ["flat", "noto"]) == ("red apple", "noto")
    assert part("red apple, shiny", ["flat", "noto"]) == ("red apple, shiny", None)
    assert part("red apple", ["flat", "noto"]) == ("red apple", None)


def test_held_out_prompts_are_read_once_each(tmp_path: Path) -> None:
    file = tmp_path / "held-out.txt"
    file.write_text("blue  apple\n\nblue apple\ngreen cat\n")
    assert read_held_out(file) == ["blue apple", "green cat"]


@pytest.mark.parametrize("data", [b"", b"one\none\n", b"\xff"])
def test_a_bad_list_is_told(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "held-out.txt"
    file.write_bytes(data)
    with pytest.raises(InvalidData, match="--held-out"):
        read_held_out(file)
