"""What the pictures are called: names, synonyms, colours and styles."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill.emoji_sources import caption, styled

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
_COLOUR_WORDS = {*COLOURS, "black", "white", "brown", "grey", "gray", "light", "dark"}
STYLE_WORDS = {
    "noto": ("noto",),
    "fluent": ("fluent", "3d"),
    "flat": ("flat",),
    "twemoji": ("twemoji",),
}
MOST_SUBJECTS = 6  # that may share a keyword: "animal" says too little, "football" enough
_KEYWORD = re.compile(r"[a-z][a-z' -]+")
_NO_LETTER = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Words:
    """The names of all icons, and what else each is called."""

    names: tuple[str, ...]
    synonyms: Mapping[str, Sequence[str]]

    def ways(self, name: str) -> tuple[str, ...]:
        """List what an icon is called: its name as words, then its synonyms."""
        return caption(name), *self.synonyms.get(name, ())

    def coloured(self, name: str, colour: str) -> tuple[str, ...]:
        """List what an icon is called in another colour: "blue apple" for `red-apple`."""
        plain = [without_colour(way) for way in self.ways(name)]
        return tuple(dict.fromkeys(f"{colour} {way}" for way in plain if way))


def slug(label: str) -> str:
    """Turn a label into an icon's name: "Soccer Ball" -> `soccer-ball`."""
    return _NO_LETTER.sub("-", re.sub("['’]", "", label.lower())).strip("-")


def read_words(names: Iterable[str], keywords: Sequence[Mapping[str, Any]]) -> Words:
    """Give every name those keywords of its emoji that at most `MOST_SUBJECTS` names share.

    keywords: emojibase's list of emoji, each with a label and tags
    """
    every = tuple(sorted(set(names)))
    tags = {slug(entry["label"]): _usable(entry.get("tags", ())) for entry in keywords}
    known = {name: tags.get(name, []) for name in every}
    uses = Counter(tag for found in known.values() for tag in found)
    synonyms = {
        name: [tag for tag in found if uses[tag] <= MOST_SUBJECTS and tag != caption(name)]
        for name, found in known.items()
    }
    return Words(every, {name: found for name, found in synonyms.items() if found})


def without_colour(text: str) -> str:
    """Drop the colours that a caption begins with: "light blue heart" -> "heart"; "" if all."""
    words = text.split()
    while words and words[0] in _COLOUR_WORDS:
        words.pop(0)
    return " ".join(words)


def pair_captions(first: str, second: str) -> tuple[str, str]:
    """Name a picture of two things in the two ways that captions do."""
    return f"{first} with {second}", f"{first} and {second}"


def in_style(texts: Sequence[str], style: str, *, columns: int) -> list[str]:
    """Spread what a picture is called over `columns` captions, half of them with its style.

    Half of the columns, or all, bear the first of `texts`; the others take turns, from style to
    style too, so that the pictures of a thing bear more of its names than one of them can.
    """
    words = STYLE_WORDS[style]
    others = texts[1:] or texts[:1]
    first = list(STYLE_WORDS).index(style) * (columns // 4)
    chosen = []
    for column in range(columns):
        pair, with_style = divmod(column, 2)
        text = texts[0] if pair % 2 == 0 else others[(first + pair // 2) % len(others)]
        chosen.append(styled(text, words[pair // 2 % len(words)]) if with_style else text)
    return chosen


def _usable(tags: Iterable[str]) -> list[str]:
    lower = (tag.lower() for tag in tags)
    return sorted({tag for tag in lower if _KEYWORD.fullmatch(tag) and len(tag) > 2})
