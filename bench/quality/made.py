"""How and where figures were made, for every file of results."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date
from importlib import metadata
from typing import Any

from bench.machine import commit, machine, versions


def told_prompts(prompts: Sequence[str], source: str) -> dict[str, Any]:
    """Tell how many prompts there are, where they are from, and the SHA-256 of them, one a line."""
    lines = "".join(f"{prompt}\n" for prompt in prompts)
    digest = hashlib.sha256(lines.encode()).hexdigest()
    return {"count": len(prompts), "sha256": digest, "source": source}


def how_made(command: str) -> dict[str, Any]:
    """Tell the command, the day, the commit, the machine and the versions that numbers hang on."""
    return {
        "command": command,
        "date": date.today().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "versions": {**versions(), "open_clip_torch": metadata.version("open_clip_torch")},
    }
