"""How much memory is free."""

from __future__ import annotations

from pathlib import Path


def available_memory() -> int | None:
    """Return the bytes of memory that can be had without swapping; None where nobody says."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = {name: rest for name, _, rest in (line.partition(":") for line in lines)}
    return 1024 * int(values["MemAvailable"].split()[0]) if "MemAvailable" in values else None
