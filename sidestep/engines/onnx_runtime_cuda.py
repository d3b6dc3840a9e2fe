"""The fused ONNX graph in ONNX Runtime, on a CUDA GPU."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from sidestep.engines.buckets import bucket_of, fill
from sidestep.engines.contract import GeneratorSpec
from sidestep.engines.cuda import selected_device
from sidestep.errors import BackendUnavailable, InvalidModel, NoGpu, one_line
from sidestep.model_folder import ONNX, ONNX_FP16, ModelFolder

PROVIDER = "CUDAExecutionProvider"


class OnnxRuntimeCudaEngine:
    """`onnx-fp16/generator.onnx`, else `onnx/generator.onnx`, with a CUDA graph for each bucket.

    Inputs and outputs are bound to fixed addresses on the GPU, as a captured graph needs.
    """

    def __init__(self, folder: ModelFolder) -> None:
        """Open the graph and capture every bucket; raises NoGpu if CUDA does not answer."""
        if PROVIDER not in ort.get_available_providers():
            raise BackendUnavailable("onnxruntime-gpu", "gpu")
        half, whole = folder.place(ONNX_FP16), folder.place(ONNX)
        file = half if folder.has(half) else whole
        folder.check([f for f in (file, f"{file}.data") if f == file or folder.has(f)])
        if file == whole and folder.card.onnx_shares:
            raise InvalidModel(
                f"{folder.path / whole} shares its weights with the folder; for a GPU run: "
                f"sidestep export {folder.arguments} --precision fp16"
            )
        self._session = _open(folder.path / file)
        self.spec = GeneratorSpec.of(folder, "onnx-cuda-fp16" if file == half else "onnx-cuda")
        self._lock = threading.Lock()
        try:
            self._buckets = {b: _Bucket(self._session, self.spec, b) for b in self.spec.buckets}
        except Exception as error:  # as in `_open`
            raise _refused(folder.path / file, error) from error

    def __call__(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """Map ids [B, L] and noise [B, 4, h, w] to pictures [B, H, W, 3]."""
        bucket = self._buckets[bucket_of(self.spec.buckets, len(input_ids))]
        with self._lock:  # graphs of one session share its memory
            return bucket(input_ids, noise)


class _Bucket:
    """One batch size: inputs on host and GPU, the output on the GPU, and their graph's name."""

    def __init__(self, session: ort.InferenceSession, spec: GeneratorSpec, bucket: int) -> None:
        self._session, device = session, selected_device()
        self._hosts: dict[str, NDArray[Any]] = {
            "input_ids": np.zeros((bucket, spec.tokens), np.int64),
            "noise": np.zeros((bucket, *spec.noise_shape), np.float32),
        }
        self._binding = session.io_binding()
        self._inputs = {}
        for name, host in self._hosts.items():
            value = ort.OrtValue.ortvalue_from_numpy(host, "cuda", device)
            self._binding.bind_ortvalue_input(name, value)
            self._inputs[name] = value
        shape = (bucket, *spec.image_size, 3)
        self._pixels = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, "cuda", device)
        self._binding.bind_ortvalue_output("pixels", self._pixels)
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(bucket))
        for _ in range(2):  # the first prepares, the second is captured
            session.run_with_iobinding(self._binding, self._options)

    def __call__(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        for name, rows in (("input_ids", input_ids), ("noise", noise)):
            fill(self._hosts[name], rows)
            self._inputs[name].update_inplace(self._hosts[name])
        self._session.run_with_iobinding(self._binding, self._options)
        pixels: NDArray[np.uint8] = self._pixels.numpy()[: len(input_ids)]
        return pixels


def _open(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    provider = (
        PROVIDER,
        {"device_id": str(selected_device()), "enable_cuda_graph": "1", "use_tf32": "0"},
    )
    try:
        session = ort.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # ONNX Runtime's own exceptions share no base class
        raise _refused(path, error) from error
    if PROVIDER not in session.get_providers():
        raise NoGpu("ONNX Runtime finds no CUDA GPU; use --engine onnx")
    return session


def _refused(path: Path, error: Exception) -> NoGpu:
    """Tell that CUDA cannot run a graph, whose file is whole: the GPU may be full."""
    reason = one_line(error)
    return NoGpu(f"CUDA cannot run {path} ({reason}); use --engine onnx")
