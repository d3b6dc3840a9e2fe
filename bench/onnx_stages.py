"""The fused ONNX graph cut into its three networks, each timed alone.

The graph is cut where everything that is still needed passes through one tensor: the text's states
[B, L, D] before the UNet reads them, and the latents [B, 4, h, w] between UNet and decoder. So it
works on any graph that `sidestep export` makes, whatever its nodes are called.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.utils import Extractor

from sidestep.engines.onnx_runtime import open_session, threads_of
from sidestep.errors import InvalidModel
from sidestep.model_folder import ONNX, ModelFolder


class OnnxStages:
    """Three sessions of the parts of the folder's fused graph, with the engine's own threads."""

    def __init__(self, folder: ModelFolder) -> None:
        """Cut the graph; raises InvalidModel if it cannot be cut in three."""
        model = onnx.load(folder.path / folder.place(ONNX), load_external_data=False)
        _beside_the_folder(model)
        text, latents = find_cuts(model.graph, folder.card.latent_shape)
        shaped_by = ["input_ids", "noise"]  # a part may read their shapes
        parts = {
            "text": (shaped_by, [text]),
            "unet": ([*shaped_by, text], [latents]),
            "decoder": ([*shaped_by, latents], ["pixels"]),
        }
        threads = threads_of(folder)
        extractor = Extractor(model)
        self._sessions = {}
        with tempfile.TemporaryDirectory() as temporary:
            for name, (inputs, outputs) in parts.items():
                path = Path(temporary) / f"{name}.onnx"
                path.write_bytes(extractor.extract_model(inputs, outputs).SerializeToString())
                self._sessions[name] = open_session(folder, path, threads=threads)
        self._text, self._latents = text, latents

    def __call__(self, ids: NDArray[np.int64], noise: NDArray[np.float32]) -> dict[str, float]:
        """Draw ids [B, L] and noise [B, 4, h, w]; the milliseconds of each network."""
        told = {}
        values: dict[str, NDArray[np.generic]] = {"input_ids": ids, "noise": noise}
        for name, session in self._sessions.items():
            feeds = {i.name: values[i.name] for i in session.get_inputs()}
            (output,) = (o.name for o in session.get_outputs())
            began = time.perf_counter()
            values[output] = session.run([output], feeds)[0]
            told[name] = 1e3 * (time.perf_counter() - began)
        self.pixels = values["pixels"]
        return told


def find_cuts(graph: onnx.GraphProto, latent_shape: tuple[int, int, int]) -> tuple[str, str]:
    """Return the tensors between text and UNet and between UNet and decoder.

    Raises InvalidModel if the graph has none.
    """
    shapes = {v.name: _shape(v) for v in graph.value_info}
    text, latents = "", ""
    for live in _live(graph, {"input_ids"}):
        if len(live) == 1 and len(shapes.get(live[0], ())) == 3:
            text = live[0]
    for live in _live(graph, {"input_ids", "noise"}):
        if len(live) == 1 and shapes.get(live[0], ())[1:] == latent_shape:
            latents = live[0]
    if not (text and latents):
        raise InvalidModel("the graph cannot be cut into text encoder, UNet and decoder")
    return text, latents


def _live(graph: onnx.GraphProto, inputs: set[str]) -> Iterator[list[str]]:
    """Yield, after each node that needs nothing but `inputs`, the tensors still needed then.

    What a node that needs more reads, such as the UNet of the text, is needed to the end.
    """
    fixed = {tensor.name for tensor in graph.initializer}
    known, last = set(inputs), dict[str, int]()
    ours: list[int] = []
    for index, node in enumerate(graph.node):
        needed = {name for name in node.input if name and name not in fixed}
        if not needed or node.op_type == "Shape":
            fixed.update(node.output)
            continue
        if needed <= known:
            known.update(node.output)
            ours.append(index)
        until = index if needed <= known else len(graph.node)
        last.update({name: max(until, last.get(name, 0)) for name in needed})
    live = set(inputs)
    for index in ours:
        live.update(graph.node[index].output)
        live = {name for name in live if last.get(name, -1) > index}
        yield sorted(live)


def _shape(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    return tuple(d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim)


def _beside_the_folder(model: onnx.ModelProto) -> None:
    """Let weights in the graph's own data file be found from the model folder too."""
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location" and entry.value == f"{Path(ONNX).name}.data":
                entry.value = f"{ONNX}.data"
