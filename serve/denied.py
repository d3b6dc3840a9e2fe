"""Prompts that are not drawn, by a list of whole words."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from serve.errors import PolicyViolation
from sidestep.errors import InvalidRequest


class DenyList:
    """Phrases, each of a rule; what is told of a denied prompt is the rule and not the phrase.

    A line of the file is `RULE: phrase`; a phrase alone is of the rule "line N", and # begins a
    comment. Case, accents' spelling, what stands between the words of a phrase, and digits beside
    its letters do not matter.
    """

    def __init__(self, path: Path) -> None:
        """Read the file; raises InvalidRequest if it cannot be read."""
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            message = f"deny_list: {path} cannot be read ({error})"
            raise InvalidRequest(message, field="deny_list") from None
        self._rules = [
            rule for number, line in enumerate(lines, 1) if (rule := _rule(line, number))
        ]

    def check(self, prompt: str) -> None:
        """Raise PolicyViolation naming the rule if the prompt has one of the phrases."""
        text = _plain(prompt)
        for name, pattern in self._rules:
            if pattern.search(text):
                message = f"prompt breaks the rule {name!r} of this service; change it"
                raise PolicyViolation(message, field="prompt")


def _rule(line: str, number: int) -> tuple[str, re.Pattern[str]] | None:
    name, colon, phrase = line.partition("#")[0].partition(":")
    if not colon:
        name, phrase = f"line {number}", name
    words = re.findall(r"[^\W_]+", _plain(phrase))
    if not words:
        return None
    between = r"[\W_]+".join(map(re.escape, words))
    before, after = _beside(words[0][0]), _beside(words[-1][-1])
    return name.strip(), re.compile(f"(?<!{before}){between}(?!{after})")


def _beside(end: str) -> str:
    """Match what may not stand beside the end of a phrase.

    No digit hides a word ("gun1"), but one more digit makes another number, and a letter a name.
    """
    return r"[^\W_]" if end.isdecimal() else r"[^\W\d_]"


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
