"""The fused ONNX graph in OpenVINO, on CPU."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidestep.engines.contract import GeneratorSpec
from sidestep.engines.cores import count_cores
from sidestep.errors import BackendUnavailable, InvalidModel, InvalidRequest, one_line
from sidestep.model_folder import ModelFolder

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoEngine:
    """`openvino-fp32/generator.onnx`, or the same in bf16, which some CPUs compute faster.

    In bf16 pictures differ by more than 1/255: see `openvino-bf16/certificate.json`.
    """

    def __init__(
        self, folder: ModelFolder, *, precision: str = "fp32", graph: Path | None = None
    ) -> None:
        """Compile the graph for this CPU.

        graph: a new file that the card does not list yet
        Raises BackendUnavailable without OpenVINO and InvalidModel for a graph that it cannot
        read or that was not exported, naming the command that does it.
        """
        try:
            import openvino
        except ImportError as error:
            raise BackendUnavailable("openvino", "openvino") from error
        if precision not in PRECISIONS:
            raise InvalidRequest(
                f"precision is {precision!r}; OpenVINO computes in {' or '.join(PRECISIONS)}",
                field="precision",
            )
        file = folder.place(f"openvino-{precision}/generator.onnx")
        if graph is None and not folder.has(file):
            raise InvalidModel(
                f"{folder.path} has no {file}; run: sidestep export {folder.arguments} "
                f"--to openvino --precision {precision}"
            )
        if graph is None:
            folder.check([f for f in (file, f"{file}.data") if f == file or folder.has(f)])
        cores = count_cores()
        path = graph or folder.path / file
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": cores,
            "NUM_STREAMS": cores,  # one core for each call
        }
        try:
            model = openvino.Core().read_model(path)
            compiled = openvino.Core().compile_model(model, "CPU", settings)
        except RuntimeError as error:
            reason = one_line(error)
            raise InvalidModel(f"{path} cannot be opened ({reason})") from error
        if (noise := _shape(model.input("noise"))) != folder.card.noise_shape:
            wanted = folder.card.noise_shape
            raise InvalidModel(f"{path} takes noise of {noise}, but the card says {wanted}")
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(cores):
            self._requests.put(compiled.create_infer_request())
        self.spec = GeneratorSpec.of(folder, f"openvino-{precision}", workers=cores)

    def __call__(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """Map ids [B, L] and noise [B, 4, h, w] to pictures [B, H, W, 3]."""
        request = self._requests.get()
        try:
            result = request.infer({"input_ids": input_ids, "noise": noise})
            pixels: NDArray[np.uint8] = result["pixels"].copy()
            return pixels
        finally:
            self._requests.put(request)


def _shape(port: Any) -> tuple[int, ...]:
    """Return the shape of an input's rows."""
    return tuple(side.get_length() for side in list(port.partial_shape)[1:])
