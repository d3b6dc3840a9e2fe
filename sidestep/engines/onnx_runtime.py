"""The fused ONNX graph in ONNX Runtime, on CPU."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from sidestep.engines.contract import GeneratorSpec
from sidestep.errors import InvalidModel
from sidestep.model_folder import ONNX, ModelFolder

MOST_THREADS = 4  # that share one picture; a small network gains nothing from more


class OnnxRuntimeEngine:
    """`onnx/generator.onnx` of a model folder; each call runs on the thread that makes it.

    Calls that overlap have one core each, which draws the most pictures per second, since on a
    CPU the cost is linear in the batch. A call that is alone spreads over the idle cores. Both
    draw the same bytes.
    """

    def __init__(self, folder: ModelFolder, *, graph: Path | None = None) -> None:
        """Open the graph; raises InvalidModel if it is missing, damaged or of another shape.

        graph: a new file that the card does not list yet, instead of `onnx/generator.onnx`
        """
        if graph is None:
            folder.check([ONNX, *folder.card.onnx_shares])
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        path = graph or folder.path / ONNX
        self._one_core = _open(folder, path, threads=1)
        self._all_cores = (
            _open(folder, path, threads=min(cores, MOST_THREADS)) if cores > 1 else self._one_core
        )
        self._calls, self._lock = 0, threading.Lock()
        card = folder.card
        found = {i.name: tuple(i.shape[1:]) for i in self._one_core.get_inputs()}
        wanted = {"input_ids": (card.tokens,), "noise": card.latent_shape}
        if found != wanted:
            raise InvalidModel(f"{path} takes {found}, but the card says {wanted}")
        self.spec = GeneratorSpec(
            name="onnx-cpu",
            weights=card.weights,
            latent_shape=card.latent_shape,
            image_size=card.image_size,
            tokens=card.tokens,
            workers=cores,
        )

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


def _open(folder: ModelFolder, path: Path, *, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Between the operators of one call a thread may spin, after it never.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.dynamic_block_base", "4")  # even shares of small work
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    # The graph may read weights from the safetensors files of its folder.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(folder.path.resolve())
    )
    try:
        return ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exceptions share no base class
        raise InvalidModel(f"{path} cannot be opened ({error})") from error
