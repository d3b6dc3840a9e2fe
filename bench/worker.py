"""A process of its own for each contender, which draws when it is told to.

    python -m bench.worker TASK_JSON

So that memory and cold start are one contender's alone, idle threads of one do not spin beside
another, and each can live in an environment of its own. Orders come as JSON lines on stdin;
each is answered with one JSON line. This file needs NumPy and nothing else of sidestep, whose
packages the environment of a peer may lack.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Drawer(Protocol):
    """What is measured: prompts and noise in, pictures in host memory out.

    An array in host memory is complete, so every call waits for the device.
    name, precision: for the report
    threads: the CPU thread counts that it lets one choose; none where it chooses itself
    packages: whose versions, in its own environment, its speed depends on
    build_s: what compiling or exporting took while it was opened; None where nothing was
    """

    name: str
    precision: str
    threads: tuple[int, ...]
    packages: tuple[str, ...]
    build_s: float | None

    def set_threads(self, count: int) -> None:
        """Use this many CPU threads from now on."""
        ...

    def build(self, batch: int) -> bool:
        """Compile for a batch size, if that is done at run time; tell whether it was."""
        ...

    def draw(self, prompts: list[str], noise: NDArray[np.float32]) -> NDArray[Any]:
        """Draw prompts [B] from noise [B, 4, h, w]; uint8 or 0..1 floats [B, H, W, 3]."""
        ...

    def stages(self, prompts: list[str], noise: NDArray[np.float32]) -> dict[str, float]:
        """Draw once more and return each stage's milliseconds; empty if it cannot be split."""
        ...


class Worker:
    """Obeys orders about one drawer."""

    def __init__(self, task: dict[str, Any]) -> None:
        """Open the drawer of a task; the first picture is part of the cold start."""
        self.prompts: list[str] = task["prompts"]
        self.noise: NDArray[np.float32] = np.load(task["noise"])
        began = time.perf_counter()
        self.drawer = open_drawer(task)
        opened = time.perf_counter()
        self._draw(1)
        build_s = self.drawer.build_s
        self.cold = {
            "build_s": None if build_s is None else round(build_s, 3),
            "open_s": round(opened - began - (build_s or 0.0), 3),
            "first_call_s": round(time.perf_counter() - opened, 3),
        }
        self._build_s: dict[int, float | None] = {1: None}  # told apart, as part of opening

    def do(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order: describe, time, stages, pictures or memory."""
        answer: dict[str, Any] = getattr(self, f"do_{order.pop('do')}")(**order)
        return answer

    def do_describe(self) -> dict[str, Any]:
        """Tell what was opened and what that took."""
        drawer = self.drawer
        return {
            "name": drawer.name,
            "precision": drawer.precision,
            "threads": drawer.threads,
            "versions": {name: metadata.version(name) for name in drawer.packages},
            **self.cold,
        }

    def do_time(
        self, batch: int, calls: int, warmup: int, threads: int | None = None
    ) -> dict[str, Any]:
        """Time calls after some that do not count, and compiling apart."""
        if threads is not None:
            self.drawer.set_threads(threads)
        self._build(batch)
        times = []
        for _ in range(warmup + calls):
            began = time.perf_counter()
            self._draw(batch)
            times.append(round(1e3 * (time.perf_counter() - began), 4))
        return {"ms": times[warmup:], "build_s": self._build_s[batch]}

    def do_stages(self, batch: int, calls: int, threads: int | None = None) -> dict[str, Any]:
        """Time each stage of some calls, after one that does not count."""
        if threads is not None:
            self.drawer.set_threads(threads)
        told = [self.drawer.stages(*self._inputs(batch)) for _ in range(1 + calls)][1:]
        return {"ms": {name: [one[name] for one in told] for name in told[0]} if told else {}}

    def do_pictures(self, batch: int, file: str) -> dict[str, Any]:
        """Write the pictures of a batch as uint8."""
        self._build(batch)
        pixels = self._draw(batch)
        if pixels.dtype != np.uint8:
            pixels = (pixels * 255).round().clip(0, 255).astype(np.uint8)
        np.save(file, pixels)
        return {}

    def do_memory(self) -> dict[str, Any]:
        """Tell the most memory that this process held, in MiB, and PyTorch's on a GPU."""
        told: dict[str, Any] = {"rss_peak_mib": rss_peak_mib(), "device_peak_mib": None}
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            told["device_peak_mib"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
        return told

    def _build(self, batch: int) -> None:
        """Compile for a batch size that is new, where that happens at run time."""
        if batch not in self._build_s:
            began = time.perf_counter()
            built = self.drawer.build(batch)
            passed = round(time.perf_counter() - began, 3)
            self._build_s[batch] = passed if built else None

    def _draw(self, batch: int) -> NDArray[Any]:
        return self.drawer.draw(*self._inputs(batch))

    def _inputs(self, batch: int) -> tuple[list[str], NDArray[np.float32]]:
        return self.prompts[:batch], self.noise[:batch]


def rss_peak_mib() -> float:
    """Return the most resident memory of this process since it began its program.

    VmHWM and not ru_maxrss, which a child inherits from its parent.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) / 2**10, 1)
    except (OSError, StopIteration):
        import resource

        unit = 2**20 if sys.platform == "darwin" else 2**10
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def open_drawer(task: dict[str, Any]) -> Drawer:
    """Open what a task names: `engine:NAME` of ours, or a peer."""
    kind, _, engine = str(task["contender"]).partition(":")
    if kind == "engine":
        from bench.ours import EngineDrawer

        return EngineDrawer(Path(task["model"]), engine, task["decoder"])
    from bench.peers import PEERS

    return PEERS[kind](Path(task["model"]))


def main() -> None:
    """Obey until stdin ends; libraries that print do so on stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    try:
        worker = Worker(json.loads(sys.argv[1]))
        answers.write(json.dumps(worker.do_describe()) + "\n")
        for line in sys.stdin:
            answers.write(json.dumps(worker.do(json.loads(line))) + "\n")
    except Exception as error:  # whatever a library raises is told to who asked
        traceback.print_exc()
        told = {"error": str(error) or repr(error), "kind": type(error).__name__}
        answers.write(json.dumps(told) + "\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
