"""The fused ONNX graph in ONNX Runtime, on CPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from sidestep.engines.contract import GeneratorSpec
from sidestep.engines.cores import count_cores
from sidestep.errors import InvalidModel, one_line
from sidestep.model_folder import ONNX, ModelFolder

MOST_THREADS = 4  # that share one small picture; it gains nothing from more
LARGE_PX = 256  # a picture above this height has work for all cores


class OnnxRuntimeEngine:
    """`onnx/generator.onnx` of a model folder; each call runs on the thread that makes it.

    Calls that overlap have one core each, which draws the most pictures per second, since on a
    CPU the cost is linear in the batch. A call that is alone spreads over the idle cores. Both
    draw the same bytes. A large picture always has all cores, and its weights are held once.
    """

    def __init__(self, folder: ModelFolder, *, graph: Path | None = None) -> None:
        """Open the graph; raises InvalidModel if it is missing, damaged or of another shape.

        graph: a new file that the card does not list yet, instead of `onnx/generator.onnx`
        """
        file = folder.place(ONNX)
        if graph is None:
            beside = [f"{file}.data"] if folder.has(f"{file}.data") else []
            folder.check([file, *beside, *folder.card.onnx_shares])
        cores, large, threads = count_cores(), _is_large(folder), threads_of(folder)
        path = graph or folder.path / file
        self._all_cores = open_session(folder, path, threads=threads)
        self._one_core = (
            self._all_cores if large or threads == 1 else open_session(folder, path, threads=1)
        )
        self._calls, self._lock = 0, threading.Lock()
        card = folder.card
        found = {i.name: tuple(i.shape[1:]) for i in self._one_core.get_inputs()}
        wanted = {"input_ids": (card.tokens,), "noise": card.noise_shape}
        if found != wanted:
            raise InvalidModel(f"{path} takes {found}, but the card says {wanted}")
        self.spec = GeneratorSpec.of(folder, "onnx-cpu", workers=1 if large else cores)

    def __call__(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """Map ids [B, L] and noise [B, 4, h, w] to pictures [B, H, W, 3]."""
        with self._session() as session:
            pixels: NDArray[np.uint8] = session.run(
                ["pixels"], {"input_ids": input_ids, "noise": noise}
            )[0]
        return pixels

    @contextmanager
    def _session(self) -> Iterator[ort.InferenceSession]:
        """Choose the session of a call by whether another is under way."""
        with self._lock:
            self._calls += 1
            alone = self._calls == 1
        try:
            yield self._all_cores if alone else self._one_core
        finally:
            with self._lock:
                self._calls -= 1


def threads_of(folder: ModelFolder) -> int:
    """Count the threads of a call that has the machine to itself."""
    return count_cores() if _is_large(folder) else min(count_cores(), MOST_THREADS)


def _is_large(folder: ModelFolder) -> bool:
    return folder.card.image_size[0] > LARGE_PX


def open_session(folder: ModelFolder, path: Path, *, threads: int) -> ort.InferenceSession:
    """Open a graph of `folder` on CPU; raises InvalidModel if it is damaged."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Between the operators of one call a thread may spin, after it never.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.dynamic_block_base", "4")  # even shares of small work
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    beside = path.with_name(f"{path.name}.data").exists()  # weights above 2 GB have their own file
    if not beside:  # the graph may read weights from the safetensors files of its folder
        place = folder.path.resolve()
        if any(file.startswith("../") for file in folder.card.onnx_shares):
            place = place.parent  # a companion reads the weights of the model beside it
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(place)
        )
    try:
        source = str(path) if beside else path.read_bytes()
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exceptions share no base class
        reason = one_line(error)
        raise InvalidModel(f"{path} cannot be opened ({reason})") from error
