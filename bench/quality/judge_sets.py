"""Read what the judge learns from: a data set's icons and, of a bundle, what is made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.quality.judge import shrink
from bench.quality.judge_data import Labelled, label
from distill.emoji_bundle import Bundle, Icons, bundled_sets, is_bundle, read_bundle
from distill.emoji_data import load
from distill.emoji_pictures import Amounts, make_pictures
from distill.held_out import HeldOut

AMOUNTS = Amounts(colours=2, pairs=750)
NOTHING_HELD_OUT = HeldOut((), frozenset(), frozenset())


def read_labelled(data: Path, *, size_px: int) -> tuple[Labelled, list[Labelled]]:
    """Return the icons and, where `data` is a bundle, recoloured ones and pairs of them.

    Pictures have `size_px`; what is made of icons that are left out is left out, too. Held-out
    prompts are not: the judge may know what a model does not.
    """
    if not is_bundle(data):
        return label(load(data, size_px=size_px)), []
    bundle = read_bundle(data)
    sets = [replace(part, pictures=shrink(part.pictures, size_px)) for part in bundled_sets(bundle)]
    icons = label(sets)
    sides = [_made(_part(bundle, icons.test == test), size_px) for test in (False, True)]
    made = [_joined(learned, test) for learned, test in zip(*sides, strict=True)]
    return icons, made


def _part(bundle: Bundle, rows: NDArray[np.bool_]) -> Bundle:
    """Keep some of all icons, in the order of `label`."""
    parts, start = [], 0
    for icons in bundle.icons:
        mine = np.flatnonzero(rows[start : start + len(icons.names)])
        names = [icons.names[row] for row in mine]
        parts.append(Icons(icons.style, names, icons.pictures[mine]))
        start += len(icons.names)
    return replace(bundle, icons=[part for part in parts if part.names])


def _made(bundle: Bundle, size_px: int) -> list[Labelled]:
    """Recolour and pair a bundle's icons: recoloured, pairs."""
    pictures = make_pictures(bundle, NOTHING_HELD_OUT, AMOUNTS)
    plain, recoloured, _ = pictures.groups
    found = []
    for rows in (slice(plain, plain + recoloured), slice(plain + recoloured, None)):
        # Of each picture's captions the first is its name and the second adds its style.
        names = [first for first, *_ in pictures.captions[rows]]
        styles = [second.rpartition(", ")[2] for _, second, *_ in pictures.captions[rows]]
        shrunk = shrink(pictures.pictures[rows].numpy(), size_px)
        found.append(Labelled(shrunk, names, styles, np.zeros(len(names), bool)))
    return found


def _joined(learned: Labelled, test: Labelled) -> Labelled:
    """Put pictures that are left out behind those that are not."""
    return Labelled(
        np.concatenate([learned.pictures, test.pictures]),
        learned.names + test.names,
        learned.styles + test.styles,
        np.concatenate([learned.test, ~test.test]),
    )
