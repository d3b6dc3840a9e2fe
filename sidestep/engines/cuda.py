"""The little of CUDA that an engine needs: buffers, a stream, and a graph of what ran on it."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sidestep.errors import BackendUnavailable, NoGpu


def load_cuda() -> Any:
    """Import cuda-bindings' runtime API; raises BackendUnavailable without it."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise BackendUnavailable("cuda-bindings", "tensorrt-rtx") from error
    return runtime


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a CUDA function and return what it gives; raises NoGpu naming CUDA's error."""
    status, *results = function(*arguments)
    if int(status):
        raise NoGpu(f"{function.__name__} failed: {status.name}")
    return results[0] if len(results) == 1 else results


_selected = threading.local()


def select_device(number: int) -> None:
    """Make a GPU the one that this thread opens engines on and calls; 0 unless told.

    Raises NoGpu if there is none of that number.
    """
    with contextlib.suppress(BackendUnavailable):  # ONNX Runtime has CUDA's own and takes numbers
        call(load_cuda().cudaSetDevice, number)
    _selected.number = number


def selected_device() -> int:
    """Return the number of this thread's GPU."""
    return getattr(_selected, "number", 0)


def when_gone(owner: object, release: Callable[..., Any], *arguments: Any) -> None:
    """Call a CUDA function when `owner` is collected, the last one asked for first.

    Not at the process's end, which frees all; whether it succeeds is not asked, because after a
    fault of the device nothing does.
    """
    weakref.finalize(owner, release, *arguments).atexit = False


class Buffer:
    """An array in pinned host memory and its twin on the device, at fixed addresses."""

    def __init__(self, runtime: Any, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """Allocate both; they are freed with this object, which must outlive views of `host`."""
        self._runtime = runtime
        self.bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._host_address = int(call(runtime.cudaMallocHost, self.bytes))
        when_gone(self, runtime.cudaFreeHost, self._host_address)
        self.device = int(call(runtime.cudaMalloc, self.bytes))
        when_gone(self, runtime.cudaFree, self.device)
        memory = (ctypes.c_uint8 * self.bytes).from_address(self._host_address)
        self.host: NDArray[Any] = np.ndarray(shape, dtype, memoryview(memory))

    def upload(self, stream: Any) -> None:
        """Copy host to device, in the stream's order."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        call(
            self._runtime.cudaMemcpyAsync,
            self.device,
            self._host_address,
            self.bytes,
            kind,
            stream,
        )

    def download(self, stream: Any) -> None:
        """Copy device to host, in the stream's order."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        call(
            self._runtime.cudaMemcpyAsync,
            self._host_address,
            self.device,
            self.bytes,
            kind,
            stream,
        )


def capture(runtime: Any, stream: Any, work: Callable[[], None]) -> Any:
    """Record what `work` puts on the stream, without running it, as a graph that can be launched.

    Whatever `work` prepares once, such as kernels, has to be prepared already.
    """
    mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    call(runtime.cudaStreamBeginCapture, stream, mode)
    try:
        work()
    finally:
        graph = call(runtime.cudaStreamEndCapture, stream)
    return call(runtime.cudaGraphInstantiate, graph, 0)
