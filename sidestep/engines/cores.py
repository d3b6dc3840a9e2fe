"""How many cores an engine on the CPU may keep busy."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def count_cores() -> int:
    """Count the cores of this process: those it may run on, at most its container's share of time.

    A container that is limited to two CPUs still sees every core of its machine. With a thread on
    each, all of them are stopped together as soon as the share is used up.
    """
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    share = cpu_share()
    return seen if share is None else max(1, min(seen, math.ceil(share)))


def cpu_share(mount: Path = CGROUPS, group: Path = Path("/proc/self/cgroup")) -> float | None:
    """Read the CPUs' worth of time that cgroups (version 2) grant, or None without a limit.

    The least of the process's own group and of those that hold it.
    """
    try:
        lines = group.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    own = next((line[3:] for line in lines if line.startswith("0::/")), None)
    if own is None:
        return None
    place = mount / own.lstrip("/")
    folders = [place, *(folder for folder in place.parents if folder.is_relative_to(mount))]
    shares = [share for folder in folders if (share := _share(folder / "cpu.max")) is not None]
    return min(shares, default=None)


def _share(file: Path) -> float | None:
    """Read `cpu.max`: microseconds of CPU time in each period of as many, or "max"."""
    try:
        quota, period = file.read_text(encoding="ascii").split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
