"""What the judge is trained on: pictures of emoji with captions that are true of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from bench.quality.judge import Reference
from bench.quality.spoiling import WAYS, vary
from distill.emoji_data import EmojiSet
from distill.emoji_sources import caption
from sidestep.errors import InvalidData


@dataclass(frozen=True)
class Caption:
    """What a caption says: a name and, if at all, a style and how the picture was spoiled."""

    name: str
    style: str | None = None
    way: str | None = None

    def __str__(self) -> str:
        """Write it as a prompt: `red apple, noto, blurred`."""
        return ", ".join(part for part in (self.name, self.style, self.way) if part)

    def is_true_of(self, picture: Caption) -> bool:
        """Whether it says nothing wrong of a picture, given all that is known of that."""
        same_style = self.style in (None, picture.style)
        return self.name == picture.name and same_style and self.way == picture.way


@dataclass(frozen=True)
class Labelled:
    """All pictures uint8 [N, S, S, 3] with their N names and styles.

    test: bool [N]; left out of the training
    """

    pictures: NDArray[np.uint8]
    names: list[str]
    styles: list[str]
    test: NDArray[np.bool_]

    @cached_property
    def training_rows(self) -> list[list[int]]:
        """The training pictures of every name, names in order."""
        rows: dict[str, list[int]] = {}
        for index in np.flatnonzero(~self.test).tolist():
            rows.setdefault(self.names[index], []).append(index)
        return [rows[name] for name in sorted(rows)]


def label(sets: Sequence[EmojiSet]) -> Labelled:
    """Join the sets and choose the test pictures: a twentieth, by the hash of style and name.

    So a picture stays on its side when others come. A name's last picture is never left out.
    """
    pictures = np.concatenate([part.pictures for part in sets])
    names = [caption(name) for part in sets for name in part.names]
    styles = [part.style for part in sets for _ in part.names]
    left = {name: names.count(name) for name in set(names)}
    test = np.zeros(len(names), bool)
    for index, (name, style) in enumerate(zip(names, styles, strict=True)):
        if left[name] > 1 and _hash(f"{style}/{name}") % 20 == 0:
            test[index] = True
            left[name] -= 1
    return Labelled(pictures, names, styles, test)


def in_order_of(reference: Reference, data: Labelled) -> NDArray[np.uint8]:
    """Return pictures that are the reference's, row by row; raises InvalidData for others."""
    if (data.names, data.styles) != (reference.names, reference.styles):
        raise InvalidData(
            f"the {len(data.names):,} pictures of --data are not the {len(reference.names):,} that "
            "the judge knows, in their order; leave --data out"
        )
    return data.pictures


def all_captions(data: Labelled) -> list[str]:
    """List every caption of these pictures that training can draw."""
    names, styles = sorted(set(data.names)), sorted(set(data.styles))
    return [
        str(Caption(name, style, way))
        for name in names
        for style in (None, *styles)
        for way in (None, *WAYS)
    ]


def draw_batch(
    parts: Sequence[tuple[Labelled, int]], draw: Generator, *, styles_each: int, spoiled: float
) -> tuple[Tensor, list[str], Tensor]:
    """Draw pictures [B, 3, S, S] and B captions, and which are true of which [B, B].

    parts: what they are drawn from, and how many pictures of each
    Each name comes with `styles_each` of its pictures, or all if it has fewer; half of the captions
    tell the style, and a share `spoiled` of the pictures is spoiled.
    """
    chosen: list[NDArray[np.uint8]] = []
    names: list[tuple[str, str]] = []
    for data, size in parts:
        rows = _draw_rows(data, draw, size=size, styles_each=styles_each)
        chosen.append(data.pictures[rows])
        names += [(data.names[row], data.styles[row]) for row in rows]
    pictures = torch.from_numpy(np.concatenate(chosen)).movedim(-1, 1).float() / 255
    pictures, ways = _spoil(vary(pictures, draw), draw, share=spoiled)
    styled = (torch.rand(len(names), generator=draw) < 0.5).tolist()
    shown = [Caption(name, style, way) for (name, style), way in zip(names, ways, strict=True)]
    said = [
        Caption(one.name, one.style if told else None, one.way)
        for one, told in zip(shown, styled, strict=True)
    ]
    match = torch.tensor([[text.is_true_of(picture) for text in said] for picture in shown])
    return pictures, [str(text) for text in said], match.float()


def _draw_rows(data: Labelled, draw: Generator, *, size: int, styles_each: int) -> list[int]:
    """Draw `size` training pictures, or all, with `styles_each` of each name or all of it."""
    rows: list[int] = []
    for number in torch.randperm(len(data.training_rows), generator=draw):
        if len(rows) >= size:
            break
        own = data.training_rows[number]
        rows += [own[i] for i in torch.randperm(len(own), generator=draw)[:styles_each]]
    return rows[:size]


def _spoil(pictures: Tensor, draw: Generator, *, share: float) -> tuple[Tensor, list[str | None]]:
    """Spoil a share of the pictures, in every way equally often; tell in which way each."""
    ways: list[str | None] = [None] * len(pictures)
    at = (torch.rand(len(pictures), generator=draw) / share * len(WAYS)).floor()
    for number, (way, spoil) in enumerate(WAYS.items()):
        chosen = torch.nonzero(at == number).flatten()
        if len(chosen):
            pictures[chosen] = spoil(pictures[chosen], draw)
            for index in chosen.tolist():
                ways[index] = way
    return pictures, ways


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
