"""What GPUs run at while they work: clocks read before are those of an idle machine."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

EVERY_MS = 500
BUSY_PERCENT = 50  # of a sample's time, to count as work
FIELDS = ("index", "utilization.gpu", "clocks.current.sm", "power.draw", "temperature.gpu")


class GpuWatch:
    """Lets nvidia-smi note what GPUs run at while its block lasts; nothing where it is missing."""

    def __enter__(self) -> Self:
        self._lines: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        query = ["--format=csv,noheader,nounits", f"--query-gpu={','.join(FIELDS)}"]
        if shutil.which("nvidia-smi"):
            with suppress(OSError):  # a disk that is full is no reason to measure nothing
                self._noted = tempfile.TemporaryFile("w+")
                self._process = subprocess.Popen(
                    ["nvidia-smi", *query, f"--loop-ms={EVERY_MS}"],
                    stdin=subprocess.DEVNULL,
                    stdout=self._noted,
                    stderr=subprocess.DEVNULL,
                )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            with self._noted:
                self._noted.seek(0)
                self._lines = self._noted.read().splitlines()

    def beside(self, gpus: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Add to each of `bench.machine.gpus` what it ran at when it was busy, as `loaded`.

        The least and the median SM clock in MHz, the most power in W and the highest temperature
        in degrees Celsius; nothing for a GPU that was not seen at work. Once the block has ended.
        """
        loaded = self._loaded()
        return [
            {**gpu, "loaded": loaded[index]} if loaded.get(index) else dict(gpu)
            for index, gpu in enumerate(gpus)
        ]

    def _loaded(self) -> dict[int, dict[str, float]]:
        noted: dict[int, list[list[float]]] = {}
        for line in self._lines:
            with suppress(ValueError):  # a line cut by the end, or a field that the GPU lacks
                index, busy, *told = (float(cell) for cell in line.split(","))
                seen = noted.setdefault(int(index), [])
                if busy >= BUSY_PERCENT and len(told) == len(FIELDS) - 2:
                    seen.append(told)
        return {index: _summary(seen) for index, seen in noted.items()}


def _summary(seen: list[list[float]]) -> dict[str, float]:
    if not seen:
        return {}
    clocks, power, temperature = zip(*seen, strict=True)
    return {
        "clock_sm_least_mhz": min(clocks),
        "clock_sm_median_mhz": statistics.median(clocks),
        "power_most_w": max(power),
        "temperature_most_c": max(temperature),
    }
