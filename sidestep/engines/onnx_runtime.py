"""The fused ONNX graph in ONNX Runtime, on CPU."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from sidestep.engines.contract import GeneratorSpec
from sidestep.errors import InvalidModel
from sidestep.model_folder import ONNX, ModelFolder


class OnnxRuntimeEngine:
    """`onnx/generator.onnx` of a model folder; each call runs on the thread that makes it.

    Single-threaded calls on as many threads as there are cores: on a CPU the cost is linear in
    the batch, and one thread without spinning beats several that share a picture.
    """

    def __init__(self, folder: ModelFolder, *, graph: Path | None = None) -> None:
        """Open the graph; raises InvalidModel if it is missing, damaged or of another shape.

        graph: a new file that the card does not list yet, instead of `onnx/generator.onnx`
        """
        if graph is None:
            folder.check([ONNX, *folder.card.onnx_shares])
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        # The graph may read weights from the safetensors files of its folder.
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(folder.path.resolve())
        )
        path = graph or folder.path / ONNX
        try:
            self._session = ort.InferenceSession(
                path.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own exceptions share no base class
            raise InvalidModel(f"{path} cannot be opened ({error})") from error
        card = folder.card
        found = {i.name: tuple(i.shape[1:]) for i in self._session.get_inputs()}
        wanted = {"input_ids": (card.tokens,), "noise": card.latent_shape}
        if found != wanted:
            raise InvalidModel(f"{path} takes {found}, but the card says {wanted}")
        self.spec = GeneratorSpec(
            name="onnx-cpu",
            weights=card.weights,
            latent_shape=card.latent_shape,
            image_size=card.image_size,
            tokens=card.tokens,
            workers=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
        )

    def __call__(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """Map ids [B, L] and noise [B, 4, h, w] to pictures [B, H, W, 3]."""
        pixels: NDArray[np.uint8] = self._session.run(
            ["pixels"], {"input_ids": input_ids, "noise": noise}
        )[0]
        return pixels
