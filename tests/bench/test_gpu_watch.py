from __future__ import annotations

import time
from pathlib import Path

import pytest

from bench.gpu_watch import add_loads, watching_gpus

GPUS = [{"name": "NVIDIA H100 80GB HBM3"}, {"name": "NVIDIA T400"}]


def test_clocks_are_read_while_a_gpu_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second GPU stays idle; the last line is cut by the end; one field is not told."""
    ready = tmp_path / "ready"
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\n"
        "printf '0, 0, 345, 70.1, 31\\n1, 0, 300, [N/A], 40\\n'\n"
        "printf '0, 98, 1755, 640.5, 60\\n1, 3, 300, [N/A], 40\\n'\n"
        "printf '0, 100, 1980, 698.2, 66\\n0, 99, 1970, 690.0, 64\\n0, 100, 1'\n"
        f"touch {ready}; exec sleep 60\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with watching_gpus() as noted:
        while not ready.exists():
            time.sleep(0.01)
    busy, idle = add_loads(GPUS, noted)
    assert busy["name"] == GPUS[0]["name"]
    assert busy["loaded"] == {
        "clock_sm_least_mhz": 1755,
        "clock_sm_median_mhz": 1970,
        "power_most_w": 698.2,
        "temperature_most_c": 66,
    }
    assert idle == GPUS[1]


def test_without_the_tool_nothing_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with watching_gpus() as noted:
        pass
    assert add_loads(GPUS[:1], noted) == GPUS[:1]
