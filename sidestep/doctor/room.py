"""Room on disks and in memory."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sidestep.doctor.findings import Finding, note, ok, problem
from sidestep.memory import available_memory

GIB = 2**30
# The service with the embedded model holds 676 MiB in all its processes, its page loaded.
SERVING_MEMORY = 3 * GIB // 4
EXPORTING_MEMORY = 20 * GIB  # Stable Diffusion 1.5 to fp16 took 19.8 GiB
SERVING_DISK = GIB // 4  # the page's pictures and logs
EXPORTING_DISK = 10 * GIB  # Stable Diffusion 1.5, its graph and plans of both


def check() -> Iterator[Finding]:
    """Check the disks of this folder and of temporary files, and the memory."""
    places = [Path.cwd()]
    try:
        places.insert(0, Path(tempfile.gettempdir()))
    except FileNotFoundError:
        text = "no folder for temporary files can be written to"
        yield problem("disk", text, 'mkdir -p "$HOME/tmp" && export TMPDIR="$HOME/tmp"')
    for place in {place.stat().st_dev: place for place in places}.values():
        yield check_disk(place, shutil.disk_usage(place).free)
    yield check_memory(available_memory())


def check_disk(place: Path, free: int) -> Finding:
    """Judge the bytes that are free where `place` lies."""
    text = f"{_gib(free)} free at {place}"
    if free < SERVING_DISK:
        return problem("disk", f"{text}; serving takes {_gib(SERVING_DISK)}", "pip cache purge")
    if free < EXPORTING_DISK:
        needed = _gib(EXPORTING_DISK)
        return note("disk", f"{text}; Stable Diffusion 1.5 and its engines take {needed}")
    return ok("disk", text)


def check_memory(free: int | None) -> Finding:
    """Judge the bytes of memory that are free; None where nobody says."""
    if free is None:
        return note("memory", "this system does not say how much is free")
    text = f"{_gib(free)} free"
    if free < SERVING_MEMORY:
        return problem(
            "memory", f"{text}; serving takes {_gib(SERVING_MEMORY)}: end other programs"
        )
    if free < EXPORTING_MEMORY:
        return note(
            "memory", f"{text}; exporting Stable Diffusion 1.5 takes {_gib(EXPORTING_MEMORY)}"
        )
    return ok("memory", text)


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"
