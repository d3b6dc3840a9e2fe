"""What a figure was measured on: machine, GPU, packages, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from sidestep import __version__
from sidestep.engines.cores import count_cores

PACKAGES = (
    *("numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "torch", "diffusers", "transformers"),
    *("tensorrt", "tensorrt-rtx-cu13-bindings", "bentoml", "fastapi", "uvicorn", "pillow"),
)
# As nvidia-smi names them -> with the unit in the name.
GPU_FIELDS = {
    "name": "name",
    "driver_version": "driver",
    "memory.total": "memory_mib",
    "clocks.current.sm": "clock_sm_mhz",
    "clocks.max.sm": "clock_sm_most_mhz",
    "clocks.current.memory": "clock_memory_mhz",
    "power.limit": "power_cap_w",
    "temperature.gpu": "temperature_c",
    "mig.mode.current": "mig",
}


def machine() -> dict[str, Any]:
    """Describe this machine: CPU, cores that this process may use, RAM, load, GPUs."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _cpu(),
        "cores": cores(),
        "ram_gib": _ram_gib(),
        "load_average": load_average(),
        "gpus": gpus(),
    }


def cores() -> int:
    """Count the CPU cores that this process may use, at most its container's share of time."""
    return count_cores() if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_average() -> float | None:
    """Return the runnable processes of the last minute; others' work makes figures worse."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def gpus() -> list[dict[str, str]]:
    """List the NVIDIA GPUs with driver, clocks and power cap, as nvidia-smi tells them."""
    return [
        dict(zip(GPU_FIELDS.values(), row, strict=True))
        for row in nvidia_smi(f"--query-gpu={','.join(GPU_FIELDS)}")
        if len(row) == len(GPU_FIELDS)
    ]


def gpu_memory_mib(pid: int) -> float | None:
    """Return what a process holds on all GPUs; None where nobody tells."""
    rows = nvidia_smi("--query-compute-apps=pid,used_memory")
    held = [float(row[1]) for row in rows if row[0] == str(pid) and row[1].isdecimal()]
    return sum(held) if held else None


def nvidia_smi(query: str) -> list[list[str]]:
    """Ask nvidia-smi; no rows where it is missing or fails."""
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return []
    return [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]


def versions() -> dict[str, str]:
    """Return the versions of Python, sidestep and the packages that figures depend on."""
    found = {"python": platform.python_version(), "sidestep": __version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Return the checkout's commit, with a + if files differ from it; None outside of one."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def _cpu() -> str:
    """Name the CPU and what it can do beyond plain vectors."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    told = {key.strip(): value.strip() for key, _, value in (li.partition(":") for li in lines)}
    flags = told.get("flags", "").split()
    known = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    name = told.get("model name", platform.machine())
    family = f"family {told['cpu family']} model {told['model']}" if "cpu family" in told else ""
    return ", ".join(part for part in (name, family, " ".join(known)) if part)


def _ram_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (OSError, ValueError, AttributeError):
        return None
