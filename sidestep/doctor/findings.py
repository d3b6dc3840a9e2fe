"""What a check found: one line, and for what is wrong the command that mends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of `sidestep doctor`.

    level: "problem" where serving does not work with it, "note" for all else that is worth knowing
    mend: the command that mends it, where one does
    """

    level: Level
    subject: str
    text: str
    mend: str = ""

    def __str__(self) -> str:
        line = f"{self.level:<8}{self.subject:<18} {self.text}"
        return f"{line}; run: {self.mend}" if self.mend else line


def ok(subject: str, text: str) -> Finding:
    """Tell of what is as it should be."""
    return Finding("ok", subject, text)


def note(subject: str, text: str, mend: str = "") -> Finding:
    """Tell of what is missing or odd and does not keep anybody from serving."""
    return Finding("note", subject, text, mend)


def problem(subject: str, text: str, mend: str = "") -> Finding:
    """Tell of what serving does not work with."""
    return Finding("problem", subject, text, mend)
