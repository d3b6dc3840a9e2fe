"""Which emoji the embedded model learns, under which licences and names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One icon set on npm: an Iconify package with `icons.json` inside."""

    style: str
    package: str
    version: str
    sha256: str
    licence: str
    author: str

    @property
    def archive(self) -> str:
        """The name `npm pack` gives the package's file."""
        return f"{self.package.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


SOURCES = (
    Source(
        style="noto",
        package="@iconify-json/noto",
        version="1.2.9",
        sha256="3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
        licence="Apache-2.0",
        author="Google Inc (Noto Emoji)",
    ),
    Source(
        style="fluent",
        package="@iconify-json/fluent-emoji",
        version="1.2.7",
        sha256="8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b",
        licence="MIT",
        author="Microsoft Corporation (Fluent Emoji)",
    ),
    Source(
        style="flat",
        package="@iconify-json/fluent-emoji-flat",
        version="1.2.6",
        sha256="7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
        licence="MIT",
        author="Microsoft Corporation (Fluent Emoji Flat)",
    ),
    Source(
        style="twemoji",
        package="@iconify-json/twemoji",
        version="1.2.5",
        sha256="19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
        licence="CC-BY-4.0",
        author="Twitter, Inc and other contributors (Twemoji)",
    ),
)

# The keywords of every emoji, from which synonyms are taken.
KEYWORDS = Source(
    style="",
    package="emojibase-data",
    version="17.0.0",
    sha256="d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
    licence="MIT",
    author="Miles Johnson (Emojibase)",
)

# What people ask for and 64 pixels can show. People, symbols and flags are left out, so that a
# small network's capacity goes to the rest: they are half of all emoji, and differ in details
# below a latent's resolution.
CATEGORIES = (
    "Smileys & Emotion",
    "Animals & Nature",
    "Food & Drink",
    "Travel & Places",
    "Activities",
    "Objects",
)
_REPEATS = re.compile(r"oclock$|-thirty$|skin-tone")  # 24 clock faces, and tones of another icon


def kept_names(names: Iterable[str], subjects: Set[str]) -> list[str]:
    """Choose the icons worth learning, sorted: those of `subjects` that repeat no other icon."""
    return sorted(name for name in names if name in subjects and not _REPEATS.search(name))


def caption(name: str) -> str:
    """Turn an icon's name into words: `red-apple` -> `red apple`."""
    return name.replace("-", " ")


def styled(text: str, style: str) -> str:
    """Add a style word to a caption: `red apple` -> `red apple, noto`."""
    return f"{text}, {style}"
