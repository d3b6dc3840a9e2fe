from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bench.quality.examples import name_examples, save_examples, shuffled
from bench.quality.judge import Judge, Reference

PROMPTS = ["red apple", "octopus", "fire engine", "sunflower", "pizza", "cat face", "rocket"]


def test_a_picture_is_named_by_what_fits_it_best(tiny_judge: Path) -> None:
    """Features of names stand for pictures that show exactly that: the last shows another thing."""
    judge, reference = Judge.load(tiny_judge), Reference.load(tiny_judge)
    names = sorted(set(reference.names))
    asked = [names[0], names[1], "pizza"]
    seen = judge.read([names[0], names[1], names[0]])
    told = name_examples(judge, reference, seen, asked)
    assert [(one.number, one.prompt, one.rank, one.named) for one in told[:2]] == [
        (1, names[0], 0, True),
        (2, names[1], 0, True),
    ]
    assert told[2].rank >= 1
    assert name_examples(judge, reference, seen[:0], []) == []


def test_the_order_gives_nothing_away_and_is_always_the_same() -> None:
    assert sorted(shuffled(PROMPTS)) == sorted(PROMPTS)
    assert shuffled(PROMPTS) == shuffled(PROMPTS[::-1]) != PROMPTS


def test_the_grid_has_a_row_for_five(tmp_path: Path) -> None:
    pictures = np.zeros((7, 16, 16, 3), np.uint8)
    save_examples(tmp_path / "examples.png", pictures)
    with Image.open(tmp_path / "examples.png") as page:
        assert page.height == 2 * 16 + 2
        dark = (np.asarray(page.convert("L"))[:, -5 * 18 :] == 0).sum()
    assert dark == pictures.shape[0] * 16 * 16
