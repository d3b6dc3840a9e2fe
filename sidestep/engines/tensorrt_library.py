"""TensorRT and TensorRT for RTX as one library: the same API from two packages.

TensorRT for RTX needs no GPU to compile. Its Python bindings come without the libraries, which
the ONNX Runtime provider of the same release carries; they are loaded first.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidestep.errors import BackendUnavailable

NAMES = ("tensorrt", "tensorrt-rtx")
_CARRIER = "onnxruntime_ep_nv_tensorrt_rtx"
_SHARED = ("libtensorrt_rtx.so.*", "libtensorrt_onnxparser_rtx.so.*")  # in order of dependence


@dataclass(frozen=True)
class Library:
    """An imported TensorRT: `trt` is its module, the same API under both names."""

    name: str
    version: str
    trt: Any


def load_library(name: str) -> Library:
    """Import "tensorrt" or "tensorrt-rtx"; raises BackendUnavailable where it is not whole."""
    try:
        if name == "tensorrt":
            trt = importlib.import_module("tensorrt")
        else:
            _preload()
            trt = importlib.import_module("tensorrt_rtx_bindings")
        return Library(name, str(trt.__version__), trt)
    except (ImportError, OSError, AttributeError) as error:
        # The package "tensorrt" may be installed as a mere downloader of its libraries.
        raise BackendUnavailable(name, name) from error


def has_driver() -> bool:
    """Tell whether a CUDA driver with a GPU answers."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    answers = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return bool(answers and count.value > 0)


def driver_of(device: int = 0) -> tuple[str | None, str | None]:
    """Return a GPU's name and the CUDA version of its driver; None where none answers."""
    if not has_driver():
        return None, None
    driver = ctypes.CDLL("libcuda.so.1")
    name, version = ctypes.create_string_buffer(256), ctypes.c_int(0)
    driver.cuDeviceGetName(name, 256, device)
    driver.cuDriverGetVersion(ctypes.byref(version))
    major, minor = divmod(version.value, 1000)
    return name.value.decode(), f"{major}.{minor // 10}"


def make_logger(library: Library) -> tuple[Any, list[str]]:
    """Return a TensorRT logger and the list that it keeps errors in."""
    errors: list[str] = []
    trt = library.trt

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                errors.append(" ".join(message.split()))

    return Logger(), errors


def _preload() -> None:
    spec = importlib.util.find_spec(_CARRIER)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"No module named {_CARRIER!r}", name=_CARRIER)
    folder = Path(spec.submodule_search_locations[0])
    for pattern in _SHARED:
        found = sorted(folder.glob(pattern))
        if not found:
            raise ImportError(f"{folder} has no {pattern}", name=_CARRIER)
        ctypes.CDLL(str(found[-1]), mode=ctypes.RTLD_GLOBAL)
