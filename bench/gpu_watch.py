"""What GPUs run at while they work: clocks read before are those of an idle machine."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

EVERY_MS = 500
BUSY_PERCENT = 50  # of a sample's time, to count as work
FIELDS = ("index", "utilization.gpu", "clocks.current.sm", "power.draw", "temperature.gpu")


@contextmanager
def watching_gpus() -> Iterator[list[str]]:
    """Let nvidia-smi note what GPUs run at; the list has its lines once the block has ended.

    None where the tool is missing, or no file can be written: that is no reason to measure nothing.
    """
    lines: list[str] = []
    with ExitStack() as opened:
        file = None
        if shutil.which("nvidia-smi"):
            with suppress(OSError):  # a pipe would be full after a minute or two
                file = opened.enter_context(tempfile.TemporaryFile("w+"))
        if file is None:
            yield lines
            return
        query = ["--format=csv,noheader,nounits", f"--query-gpu={','.join(FIELDS)}"]
        command = ["nvidia-smi", *query, f"--loop-ms={EVERY_MS}"]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.DEVNULL)
        try:
            yield lines
        finally:
            process.terminate()
            process.wait()
            file.seek(0)
            lines += file.read().splitlines()


def add_loads(gpus: Sequence[Mapping[str, Any]], lines: Sequence[str]) -> list[dict[str, Any]]:
    """Add to each of `bench.machine.gpus` what it ran at when it was busy, as `loaded`.

    lines: what `watching_gpus` noted. The least and the median SM clock in MHz, the most power in W
    and the highest temperature in degrees Celsius; nothing for a GPU that was not seen at work.
    """
    seen: dict[int, list[list[float]]] = {}
    for line in lines:
        with suppress(ValueError):  # a line cut by the end, or a field that the GPU lacks
            index, busy, *told = (float(cell) for cell in line.split(","))
            if busy >= BUSY_PERCENT and len(told) == len(FIELDS) - 2:
                seen.setdefault(int(index), []).append(told)
    return [
        {**gpu, "loaded": _summary(seen[index])} if index in seen else dict(gpu)
        for index, gpu in enumerate(gpus)
    ]


def _summary(seen: Sequence[Sequence[float]]) -> dict[str, float]:
    clocks, power, temperature = zip(*seen, strict=True)
    return {
        "clock_sm_least_mhz": min(clocks),
        "clock_sm_median_mhz": statistics.median(clocks),
        "power_most_w": max(power),
        "temperature_most_c": max(temperature),
    }
