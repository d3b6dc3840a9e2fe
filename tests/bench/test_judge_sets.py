"""What the judge learns beside the icons: recoloured ones and pairs, none of an icon left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.quality.judge_sets import read_labelled
from distill.emoji_words import COLOURS
from sidestep.errors import InvalidData

NAMES = [f"thing-{number}" for number in range(100)]


def test_a_bundle_gives_icons_recoloured_ones_and_pairs(write_bundle: Callable[..., Path]) -> None:
    icons, (recoloured, pairs) = read_labelled(write_bundle(NAMES, synonyms={}), size_px=8)
    assert icons.pictures.shape == (200, 8, 8, 3)
    assert icons.styles == 100 * ["noto"] + 100 * ["flat"]
    assert {name.split()[0] for name in recoloured.names} <= set(COLOURS)
    assert all(" with " in name or " and " in name for name in pairs.names)
    assert set(recoloured.styles) | set(pairs.styles) == {"noto", "flat"}
    assert recoloured.pictures.shape[1:] == pairs.pictures.shape[1:] == (8, 8, 3)


def test_nothing_is_learned_of_an_icon_that_is_left_out(write_bundle: Callable[..., Path]) -> None:
    icons, made = read_labelled(write_bundle(NAMES, synonyms={}), size_px=8)
    pairs = list(zip(icons.names, icons.styles, strict=True))
    left_out = {pair for pair, test in zip(pairs, icons.test, strict=True) if test}
    assert len(left_out) > 2
    for part in made:
        assert part.test.any()
        for row, (name, style) in enumerate(zip(part.names, part.styles, strict=True)):
            plain = name.replace(" and ", " with ").split(" with ")
            things = {" ".join(words.split()[-2:]) for words in plain}
            of_left_out = {(thing, style) in left_out for thing in things}
            assert of_left_out == {bool(part.test[row])}


def test_the_colour_of_what_is_recoloured_is_seen(write_bundle: Callable[..., Path]) -> None:
    _, (recoloured, _) = read_labelled(write_bundle(NAMES, synonyms={}), size_px=8)
    means = recoloured.pictures[:, 3:5, 3:5].mean(axis=(1, 2))
    for colour, channel in (("red", 0), ("green", 1), ("blue", 2)):
        mine = means[[name.startswith(colour) for name in recoloured.names]]
        assert (np.argmax(mine, axis=1) == channel).mean() > 0.7


def test_a_folder_gives_icons_alone(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="sidestep data emoji"):
        read_labelled(tmp_path, size_px=8)
