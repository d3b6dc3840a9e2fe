"""No caption of the training says what is held out, in no way of saying it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.emoji_bundle import Bundle, Icons, build_bundle, read_bundle
from distill.emoji_pictures import PARTNERS, Amounts, coloured_captions, make_pictures
from distill.emoji_words import Words, read_words
from distill.held_out import KEPT, choose, held_out, read_prompts
from distill.student import EXAMPLES

NAMES = ("cat-face", "crown", "green-book", "orange-book", "pizza", "red-apple", "red-heart")
WORDS = Words(
    NAMES,
    {"cat-face": ["kitty"], "red-apple": ["apple", "ripe"], "orange-book": ["novel", "apple"]},
)
PROMPTS = ("orange book", "blue apple", "cat face with crown")


def coloured_squares(size_px: int = 16) -> Bundle:
    """Every icon of `NAMES` in two styles, as a square of one strong colour."""
    colours = np.random.default_rng(0).permuted(
        np.tile(np.array([[230, 30, 30], [30, 200, 60], [40, 60, 220]], np.uint8), (3, 1)), axis=0
    )
    pictures = np.zeros((len(NAMES), size_px, size_px, 4), np.uint8)
    pictures[:, 2:-2, 2:-2, 3] = 255
    pictures[:, 2:-2, 2:-2, :3] = colours[: len(NAMES), None, None]
    return Bundle([Icons(style, list(NAMES), pictures) for style in ("noto", "flat")], WORDS)


@pytest.mark.parametrize(
    "text",
    [
        "orange book",
        "orange book, noto",
        "pizza with orange book",
        "novel",
        "blue apple",
        "blue ripe, flat",
        "cat face with crown",
        "crown and kitty",
        "kitty with crown, 3d",
    ],
)
def test_every_way_of_saying_it_is_held_out(text: str) -> None:
    assert not held_out(WORDS, PROMPTS).allows(text)


@pytest.mark.parametrize(
    "text",
    [
        "apple",
        "green book",
        "blue heart",
        "red apple with crown",
        "crown",
        "orange",
        "blue novelty",
    ],
)
def test_what_its_parts_are_in_stays(text: str) -> None:
    """`apple` is also a synonym of what is held out, but others have it too."""
    assert held_out(WORDS, PROMPTS).allows(text)


def test_no_training_caption_is_held_out() -> None:
    held = held_out(WORDS, PROMPTS)
    made = make_pictures(coloured_squares(), held, Amounts(colours=7, pairs=300))
    texts = {text for captions in made.captions for text in captions}
    assert not [text for text in texts if not held.allows(text)]
    plain, coloured, pairs = made.groups
    assert plain == 2 * (len(NAMES) - 1)
    assert coloured > 0
    assert pairs > 100
    assert len(made.captions) == len(made.pictures) == sum(made.groups)
    assert made.held_out.shape == (2, 16, 16, 3)
    assert any(" with " in text for text in texts)
    assert {"red apple", "red apple, noto", "ripe"} <= texts


def test_pictures_are_made_the_same_again() -> None:
    held = held_out(WORDS, PROMPTS)
    first, again = (make_pictures(coloured_squares(), held, Amounts(2, 20)) for _ in range(2))
    assert first.captions == again.captions
    assert torch.equal(first.pictures, again.pictures)


def test_the_list_has_300_prompts_of_all_three_kinds() -> None:
    prompts = read_prompts()
    assert len(set(prompts)) == len(prompts) == 300
    assert sum(" with " in prompt for prompt in prompts) >= 100
    assert all(prompt == " ".join(prompt.lower().split()) for prompt in prompts)


def test_choosing_depends_on_no_order() -> None:
    coloured = ["blue crown", "green pizza"]
    ways = [
        choose(WORDS, names, colours, ["crown", "red-heart"], {"red heart"})
        for names, colours in ((NAMES, coloured), (NAMES[::-1], coloured[::-1]))
    ]
    assert ways[0] == ways[1]
    assert "red heart" not in ways[0]
    assert {"blue crown", "green pizza"} <= set(ways[0])


def test_a_keyword_of_many_names_is_no_synonym() -> None:
    names = [f"thing-{letter}" for letter in "abcdefg"]
    keywords = [{"label": name.replace("-", " "), "tags": ["object", "143"]} for name in names]
    keywords[0]["tags"] = ["object", "gadget", "x"]
    words = read_words(names, keywords)
    assert words.synonyms == {"thing-a": ["gadget"]}
    assert words.ways("thing-b") == ("thing b",)


@pytest.mark.slow
def test_no_caption_of_the_real_training_is_held_out(tmp_path: Path) -> None:
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    bundle = read_bundle(build_bundle(tmp_path / "packages", tmp_path / "bundle"))
    assert (tmp_path / "bundle").stat().st_size < 40 * 2**20
    held = held_out(bundle.words)
    assert len(held.names) == 60
    unsaid = [prompt for prompt in held.prompts if prompt not in held.phrases]
    assert not unsaid
    ways = {caption for name in held.names for caption in bundle.words.ways(name)}
    assert len(held.phrases) > 240 + len(ways) / 2
    shared = set.intersection(*(set(icons.names) for icons in bundle.icons))
    coloured = coloured_captions(bundle, styles=3)
    again = choose(bundle.words, shared, coloured, PARTNERS, {*EXAMPLES, *KEPT})
    assert tuple(again) == read_prompts()
    made = make_pictures(bundle, held, Amounts(colours=1, pairs=300))
    texts = {text for captions in made.captions for text in captions}
    assert not [text for text in texts if not held.allows(text)]
    assert not texts & set(held.prompts)
    assert json.dumps(sorted(texts)).isascii()
