"""How and where figures were made, for every file of results."""

from __future__ import annotations

import os
import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sidestep import __version__


def how_made(command: str) -> dict[str, Any]:
    """Tell the command, the day, the machine and the versions that numbers depend on."""
    packages = ("torch", "open_clip_torch", "numpy", "onnxruntime")
    return {
        "command": command,
        "date": date.today().isoformat(),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "sidestep": __version__,
        **{package: version(package) for package in packages},
    }


def _processor() -> str:
    """Name the processor as the kernel does, else its architecture."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
