"""GPUs and TensorRT, with and without."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from sidestep.doctor.gpus import check, check_cuda
from sidestep.engines.tensorrt_library import has_driver


def test_no_gpu_is_a_note() -> None:
    findings = {finding.subject: finding for finding in check()}
    assert {"gpu", "tensorrt", "tensorrt-rtx"} <= set(findings)
    assert "problem" not in {finding.level for finding in findings.values()}
    if not has_driver():
        assert findings["gpu"].level == "note"
        assert "cuda" not in findings
    if find_spec("tensorrt_rtx_bindings"):
        assert findings["tensorrt-rtx"].level == "ok"
        assert findings["tensorrt-rtx"].text.startswith("1.7.1")


@pytest.mark.skipif(has_driver(), reason="a driver answers here")
def test_a_gpu_whose_driver_does_not_answer_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    row = "Some GPU, 580.1, 81559, 1980, 1980, 2619, 700.00, 31, Disabled"
    tool.write_text(f"#!/bin/sh\necho '{row}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    listed, silent, *_ = check()
    assert str(listed).split() == ["ok", "gpu", "Some", "GPU,", "81559", "MiB,", "driver", "580.1"]
    assert "its CUDA driver does not answer" in silent.text


def test_an_older_driver_than_the_packages_is_told(install: Callable[..., None]) -> None:
    install("cuda-bindings", "13.5.0")
    found = check_cuda("12.8")
    assert found.level == "note"
    assert "the driver speaks CUDA 12.8, but cuda-bindings is 13.5.0" in found.text
    assert check_cuda("13.0").level == "ok"


@pytest.mark.skipif(find_spec("tensorrt") is not None, reason="TensorRT is here")
def test_a_tensorrt_without_libraries_is_told(install: Callable[..., None]) -> None:
    install("tensorrt", "11.4.0")
    (found,) = [finding for finding in check() if finding.subject == "tensorrt"]
    assert found.level == "note"
    assert "is not whole (No module named 'tensorrt')" in found.text
    assert found.mend == "pip install --force-reinstall tensorrt==11.4.0"
