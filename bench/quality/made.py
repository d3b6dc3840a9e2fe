"""How and where figures were made, for every file of results."""

from __future__ import annotations

from datetime import date
from importlib import metadata
from typing import Any

from bench.machine import commit, machine, versions


def how_made(command: str) -> dict[str, Any]:
    """Tell the command, the day, the commit, the machine and the versions that numbers hang on."""
    return {
        "command": command,
        "date": date.today().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "versions": {**versions(), "open_clip_torch": metadata.version("open_clip_torch")},
    }
