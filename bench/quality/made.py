"""How and where figures were made, for every file of results."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date
from importlib import metadata
from typing import Any

from bench.machine import commit, machine, versions
from sidestep.model_folder import ModelCard


def told_prompts(prompts: Sequence[str], source: str) -> dict[str, Any]:
    """Tell how many prompts there are, where they are from, and the SHA-256 of them, one a line."""
    lines = "".join(f"{prompt}\n" for prompt in prompts)
    digest = hashlib.sha256(lines.encode()).hexdigest()
    return {"count": len(prompts), "sha256": digest, "source": source}


def kappas_of(card: ModelCard) -> list[float] | None:
    """Return κ1…κ4 of a model's recipe, where it tells them."""
    guidance = card.recipe.get("guidance")
    names = [f"kappa{number}" for number in range(1, 5)]
    if not isinstance(guidance, dict) or not all(name in guidance for name in names):
        return None
    return [float(guidance[name]) for name in names]


def told_kappas(card: ModelCard) -> str:
    """Write κ1…κ4 of a model's recipe, with a question mark for each that it does not tell."""
    kappas = kappas_of(card)
    return ", ".join(map(str, kappas) if kappas else "????")


def how_made(command: str) -> dict[str, Any]:
    """Tell the command, the day, the commit, the machine and the versions that numbers hang on."""
    return {
        "command": command,
        "date": date.today().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "versions": {**versions(), "open_clip_torch": metadata.version("open_clip_torch")},
    }
