"""Prompts that are kept from every training, so that a model can be judged on unseen ones.

`held_out.txt` has one prompt a line: names of emoji ("orange book"), which no picture and no
caption of the training shows; colours ("blue octopus") and pairs ("owl with crown") of things
that it does show, but never so together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

from distill.emoji_sources import caption
from distill.emoji_words import COLOURS, Words, pair_captions, without_colour

NAMES, COLOURED, PAIRS = 60, 140, 100
# What everybody tries first stays in the training.
KEPT = (
    "birthday cake",
    "broken heart",
    "christmas tree",
    "dog face",
    "face with tears of joy",
    "full moon",
    "green apple",
    "grinning face",
    "hot air balloon",
    "hot beverage",
    "hot dog",
    "ice cream",
    "mouse face",
    "open book",
    "police car",
    "rabbit face",
    "smiling face with heart eyes",
    "snowman without snow",
    "t shirt",
    "teddy bear",
    "two hearts",
    "video game",
)


@dataclass(frozen=True)
class HeldOut:
    """What the training may not see.

    prompts: as they are written; names: of icons; phrases: every way of saying one of them
    """

    prompts: tuple[str, ...]
    names: frozenset[str]
    phrases: frozenset[str]

    @cached_property
    def _longest(self) -> int:
        """Count the words of the longest phrase."""
        return max((len(phrase.split()) for phrase in self.phrases), default=0)

    def allows(self, text: str) -> bool:
        """Whether no run of whole words of `text` is a held-out phrase."""
        words = text.replace(",", " ").split()
        runs = (
            " ".join(words[start:end])
            for start in range(len(words))
            for end in range(start + 1, min(len(words), start + self._longest) + 1)
        )
        return self.phrases.isdisjoint(runs)


def read_prompts() -> tuple[str, ...]:
    """Read the held-out prompts that come with the package."""
    return tuple((files("distill") / "held_out.txt").read_text(encoding="utf-8").splitlines())


def held_out(words: Words, prompts: Iterable[str] | None = None) -> HeldOut:
    """Find every way of saying the held-out prompts, as far as they are about `words`."""
    chosen = read_prompts() if prompts is None else tuple(prompts)
    named = {caption(name): name for name in words.names}
    names = frozenset(named[prompt] for prompt in chosen if prompt in named)
    kept_ways = {way for name in words.names if name not in names for way in words.ways(name)}
    phrases = {way for name in names for way in words.ways(name) if way not in kept_ways}
    phrases |= {caption(name) for name in names}
    for prompt in chosen:
        if prompt not in named:
            phrases |= set(_ways_of(prompt, named, words))
    return HeldOut(chosen, names, frozenset(phrases))


def _ways_of(prompt: str, named: dict[str, str], words: Words) -> list[str]:
    """List every way of saying a coloured thing or a pair, in both orders."""
    colour, _, thing = prompt.partition(" ")
    alike = [name for text, name in named.items() if without_colour(text) == thing]
    if colour in COLOURS and alike:
        return [prompt, *(way for name in alike for way in words.coloured(name, colour))]
    parts = prompt.split(" with ")
    for cut in range(1, len(parts)):
        first, second = (" with ".join(half) for half in (parts[:cut], parts[cut:]))
        if first in named and second in named:
            sides = words.ways(named[first]), words.ways(named[second])
            orders = ((a, b) for a in sides[0] for b in sides[1])
            both = [order for a, b in orders for order in ((a, b), (b, a))]
            return [text for order in both for text in pair_captions(*order)]
    return [prompt]


def choose(
    words: Words,
    shared: Iterable[str],
    coloured: Iterable[str],
    partners: Sequence[str],
    keep: Iterable[str],
) -> list[str]:
    """Choose the held-out prompts by the hash of each, so that no taste enters.

    shared: names that all four sets have; coloured: captions that recolouring can make;
    partners: names that pairs are made with; keep: captions that are never held out
    """
    kept = set(keep)
    plain = {caption(name) for name in words.names}
    uses = [set(text.split()) for text in plain]

    def composed(text: str) -> bool:
        """Tell whether other names use every word of a name, and none contains it."""
        parts = text.split()
        known = all(sum(part in other for other in uses) >= 2 for part in parts)
        inside = any(f" {text} " in f" {other} " for other in plain if other != text)
        return len(parts) > 1 and known and not inside and text not in kept

    captions = sorted(map(caption, shared))
    names = _first((text for text in captions if composed(text)), NAMES)
    left = [text for text in captions if text not in set(names)]
    colours = _first(
        (
            text
            for text in sorted(set(coloured))
            if text not in plain | kept and text.partition(" ")[2] not in names
        ),
        COLOURED,
    )
    seconds = [caption(name) for name in partners if caption(name) not in names]
    pairs = _first(
        (pair_captions(a, b)[0] for a in left for b in seconds if a != b and " with " not in a),
        PAIRS,
    )
    return [*names, *colours, *pairs]


def _first(texts: Iterable[str], count: int) -> list[str]:
    """Take those whose hashes are the smallest, and sort them as words."""
    by_hash = sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())
    return sorted(by_hash[:count])
