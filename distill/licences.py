"""The licences of a teacher, which hold for what is distilled from it."""

from __future__ import annotations

import re
from pathlib import Path

from sidestep.model_folder import CARD, ModelFolder

_FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)
_LICENCE = re.compile(r"^license(?:_name)?:\s*[\"']?([^\"'\n]+?)[\"']?\s*$", re.MULTILINE)


def read_licences(teacher: Path) -> dict[str, str]:
    """Tell what is licensed how, from the teacher's own card or the head of its README.

    A README that gives "other" gives the name too, which then counts. Empty where the folder names
    none.
    """
    if (teacher / CARD).is_file() and (told := ModelFolder.open(teacher).card.licences):
        return dict(told)
    readme = teacher / "README.md"
    if not readme.is_file():
        return {}
    front = _FRONT.match(readme.read_text(encoding="utf-8", errors="replace"))
    names = [name for name in _LICENCE.findall(front[1]) if name != "other"] if front else []
    return {"the teacher's weights, and so these": names[-1]} if names else {}
