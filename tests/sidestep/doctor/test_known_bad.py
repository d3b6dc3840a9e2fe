"""The table of pairs that do not work together."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sidestep.doctor.known_bad import KNOWN_BAD, check, known_bad

LOCK = Path(__file__).parents[3] / "locks" / "dev.txt"
BAD = {
    ("tensorrt-rtx-cu13-bindings", "onnxruntime-ep-nv-tensorrt-rtx-cu13"): [
        ("1.8.0.2", "0.5.0", True),
        ("1.7.1.116", "0.5.0", False),
    ],
    ("torch-tensorrt", "tensorrt"): [("2.14.0", "11.4.0", True), ("2.14.0", "11.1.0", False)],
    ("onnxruntime-gpu", "tensorrt"): [("1.31.1", "11.4.0", True), ("1.31.1", "10.9.0", False)],
    ("nvidia-modelopt", "cuda-bindings"): [("0.47.1", "13.0.1", True), ("0.47.1", "12.9", False)],
    ("torch", "torchvision"): [
        ("2.14.1+cpu", "0.29.1", True),
        ("2.14.1", "0.29.1", False),
        ("2.14.1+cpu", "0.29.1+cpu", False),
    ],
    ("optimum-onnx", "transformers"): [("0.1.0", "5.23.0", True), ("0.1.0", "4.57.1", False)],
    ("uvloop", "uvicorn"): [("0.22.1", "0.54.0", True), ("not a version", "0.54.0", False)],
}


@pytest.mark.parametrize("pair", KNOWN_BAD, ids=lambda pair: f"{pair.first} {pair.second}")
def test_a_pair_is_bad_in_its_versions_alone(pair: object) -> None:
    first, second = pair.first, pair.second  # type: ignore[attr-defined]
    for one, other, is_bad in BAD[first, second]:
        found = known_bad({first: one, second: other}.get)
        assert len(found) == is_bad, (one, other)
        assert all(f"{first} {one} with {second} {other}: " in f.text for f in found)
    assert known_bad({first: BAD[first, second][0][0]}.get) == []


def test_the_lock_has_none_of_them() -> None:
    lines = LOCK.read_text().splitlines()
    locked = dict(line.split(" ")[0].split("==") for line in lines if "==" in line.split(" ")[0])
    assert locked["torch"]
    assert known_bad(locked.get) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the provider has another name elsewhere")
def test_an_overwritten_onnxruntime_gpu_is_told(install: Callable[..., None]) -> None:
    """The test environment's onnxruntime is the CPU's, whose files lack the provider."""
    install("onnxruntime-gpu", "1.31.1")
    found = [finding for finding in check() if "lost its CUDA provider" in finding.text]
    assert len(found) == 1
    assert found[0].mend == "pip install --force-reinstall --no-deps onnxruntime-gpu"
