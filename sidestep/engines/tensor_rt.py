"""A TensorRT plan as an engine: for each bucket a context, fixed buffers and a CUDA graph.

No torch: buffers, streams and graphs are cuda-bindings'. A call fills the next bucket's pinned
inputs and launches one graph, which uploads, draws and downloads.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidestep.engines.buckets import bucket_of, fill
from sidestep.engines.contract import GeneratorSpec
from sidestep.engines.cuda import Buffer, call, capture, load_cuda, selected_device, when_gone
from sidestep.engines.manifest import PLAN, Manifest, check_manifest
from sidestep.engines.plans import mend_of, plans, verify
from sidestep.engines.tensorrt_library import (
    NAMES,
    Library,
    driver_of,
    has_driver,
    load_library,
    make_logger,
)
from sidestep.errors import (
    BackendUnavailable,
    EngineMismatch,
    InvalidModel,
    NoGpu,
    SidestepError,
)
from sidestep.model_folder import ModelFolder


class TensorRtEngine:
    """A plan of TensorRT or TensorRT for RTX on the first GPU."""

    def __init__(self, folder: ModelFolder, *, plan: Path | None = None) -> None:
        """Open `plan`, a folder in `engines/`, or the best one that fits the GPU that is here.

        Raises NoGpu without one, BackendUnavailable without the library, and EngineMismatch or
        InvalidModel, naming the command that mends it, for a plan that does not belong here.
        """
        place = plan or find_plan(folder)
        manifest = verify(folder, place)
        library = load_library(manifest.library)
        check_here(manifest, library, folder)
        self._runtime_api = load_cuda()
        self._engine = _deserialize(library, place, mend_of(folder, place))
        self._buckets: dict[int, _Bucket] = {}
        self.spec = GeneratorSpec.of(
            folder, f"{manifest.library}-{manifest.precision}", buckets=manifest.buckets
        )
        for profile, bucket in enumerate(manifest.buckets):
            self._buckets[bucket] = _Bucket(
                self._runtime_api, library, self._engine, self.spec, bucket, profile
            )

    def __call__(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """Map ids [B, L] and noise [B, 4, h, w] to pictures [B, H, W, 3]."""
        return self._buckets[bucket_of(self.spec.buckets, len(input_ids))](input_ids, noise)


class _Bucket:
    """One batch size: its context, buffers and graph, used by one call at a time."""

    def __init__(
        self,
        runtime: Any,
        library: Library,
        engine: Any,
        spec: GeneratorSpec,
        bucket: int,
        profile: int,
    ) -> None:
        self._runtime, self._lock = runtime, threading.Lock()
        self._stream = call(
            runtime.cudaStreamCreateWithFlags,
            1,  # cudaStreamNonBlocking
        )
        when_gone(self, runtime.cudaStreamDestroy, self._stream)
        self._context = _context(library, engine)
        if self._context is None:
            raise NoGpu(f"too little GPU memory for the context of bucket {bucket}")
        self._buffers = {
            "input_ids": Buffer(runtime, (bucket, spec.tokens), np.int64),
            "noise": Buffer(runtime, (bucket, *spec.noise_shape), np.float32),
            "pixels": Buffer(runtime, (bucket, *spec.image_size, 3), np.uint8),
        }
        stream = int(self._stream)
        if not self._context.set_optimization_profile_async(profile, stream):
            raise NoGpu(f"the plan has no profile for bucket {bucket}")
        for name, buffer in self._buffers.items():
            if name != "pixels":
                self._context.set_input_shape(name, buffer.host.shape)
            self._context.set_tensor_address(name, buffer.device)
        self._buffers["input_ids"].host[:] = 0
        self._buffers["noise"].host[:] = 0
        self._enqueue()  # prepares kernels, which a capture must not
        call(runtime.cudaStreamSynchronize, self._stream)
        self._graph = None
        if _can_be_captured(self._context, stream):
            self._graph = capture(runtime, self._stream, self._enqueue)
            when_gone(self, runtime.cudaGraphExecDestroy, self._graph)

    def __call__(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        with self._lock:
            fill(self._buffers["input_ids"].host, input_ids)
            fill(self._buffers["noise"].host, noise)
            if self._graph is None:
                self._enqueue()
            else:
                call(self._runtime.cudaGraphLaunch, self._graph, self._stream)
            call(self._runtime.cudaStreamSynchronize, self._stream)
            pixels: NDArray[np.uint8] = self._buffers["pixels"].host[: len(input_ids)].copy()
            return pixels

    def _enqueue(self) -> None:
        self._buffers["input_ids"].upload(self._stream)
        self._buffers["noise"].upload(self._stream)
        if not self._context.execute_async_v3(int(self._stream)):
            raise NoGpu("TensorRT could not run the plan")
        self._buffers["pixels"].download(self._stream)


def _context(library: Library, engine: Any) -> Any:
    """Make an execution context whose kernels are all there when its work is captured.

    TensorRT for RTX compiles kernels for the shapes at hand beside the first calls, and a graph
    captured meanwhile would keep the slow ones that stand in for them.
    """
    if library.name != "tensorrt-rtx":
        return engine.create_execution_context()
    config = engine.create_runtime_config()
    strategies = library.trt.DynamicShapesKernelSpecializationStrategy
    config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
    return engine.create_execution_context(config)


def _can_be_captured(context: Any, stream: int) -> bool:
    """Ask TensorRT for RTX whether a graph can hold a context's work; TensorRT's always can."""
    ask = getattr(context, "is_stream_capturable", None)
    return ask is None or bool(ask(stream))


def find_plan(folder: ModelFolder) -> Path:
    """Return the plan for the GPU that is here, fp16 before fp32; raises NoGpu where none is.

    Of several the first that belongs here; if none does, raises what is wrong with the first.
    """
    places = plans(folder, *NAMES)
    if not has_driver():
        raise NoGpu("no GPU with a CUDA driver answers; use --engine onnx")
    here = targets_here()
    named = [
        place
        for precision in ("fp16", "fp32")
        for place in places
        if place.name.endswith(precision) and any(f"-{target}-" in place.name for target in here)
    ]
    refused: list[SidestepError] = []
    for place in named:
        if len(named) == 1:
            return place
        try:
            manifest = verify(folder, place)
            check_here(manifest, load_library(manifest.library), folder)
            return place
        except (BackendUnavailable, EngineMismatch, InvalidModel) as error:
            refused.append(error)
    if refused:
        raise refused[0]
    raise EngineMismatch(
        "the GPU",
        plan=", ".join(place.name for place in places) or "no plan",
        here=here[-1],
        mend=f"sidestep export {folder.arguments} --to tensorrt-rtx --precision fp16",
    )


def targets_here() -> tuple[str, ...]:
    """Name the targets that fit this thread's GPU: the current one, and its compute capability."""
    runtime = load_cuda()
    properties = call(runtime.cudaGetDeviceProperties, selected_device())
    return "current", f"sm{properties.major}{properties.minor}"


def check_here(manifest: Manifest, library: Library, folder: ModelFolder) -> None:
    """Compare a plan with the library, GPU and driver that are here; raises EngineMismatch."""
    mend = (
        f"sidestep export {folder.arguments} --to {manifest.library} "
        f"--precision {manifest.precision}"
    )
    check_manifest(manifest, {"library_version": library.version}, mend)
    if not has_driver():
        raise NoGpu("no GPU with a CUDA driver answers; use --engine onnx")
    if manifest.target == "current":
        gpu, driver = driver_of(selected_device())
        check_manifest(manifest, {"gpu": gpu, "driver": driver}, mend)
    elif manifest.target not in (here := targets_here()):
        raise EngineMismatch("the GPU", plan=manifest.target, here=here[-1], mend=mend)


def _deserialize(library: Library, place: Path, mend: str) -> Any:
    logger, errors = make_logger(library)
    runtime = library.trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine((place / PLAN).read_bytes())
    if engine is None:
        reason = errors[0] if errors else "no reason given"
        raise EngineMismatch("the plan", plan=place.name, here=f"refused ({reason})", mend=mend)
    return engine
