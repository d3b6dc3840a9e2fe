"""Let an ONNX graph read its weights from the safetensors files beside it.

A safetensors file is raw little-endian tensors after a header, and so is ONNX's external data: a
graph can point at the bytes of a tensor that it uses unchanged. One copy of the weights on disk
then serves diffusers and ONNX Runtime. Locations are relative to the model folder; ONNX Runtime
is given that folder when the graph is loaded (`sidestep/engines/onnx_runtime.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

_SMALLEST = 1024  # bytes; below it a reference costs as much as the tensor


@dataclass(frozen=True)
class _Place:
    """Where a tensor's bytes lie: a file's name inside the model folder, offset and length."""

    location: str
    offset: int
    length: int


def share_weights(model: onnx.ModelProto, folder: Path, files: Iterable[str]) -> list[str]:
    """Replace the tensors of a graph that `files` hold byte for byte by references.

    A tensor that they hold transposed, as a linear layer's weights are, gets a node that turns it,
    which engines fold when they load the graph. Returns the files that the graph then reads.
    """
    places: dict[bytes, _Place] = {}
    for file in files:
        places.update(_tensors(folder, file))
    used = set()
    turns = []
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) < _SMALLEST:
            continue
        place = places.get(tensor.raw_data)
        if place is None and len(tensor.dims) == 2:
            turned = np.ascontiguousarray(numpy_helper.to_array(tensor).T)
            place = places.get(turned.tobytes())
            if place is not None:
                turns.append(_turn(tensor))
        if place is None:
            continue
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key in ("location", "offset", "length"):
            tensor.external_data.add(key=key, value=str(getattr(place, key)))
        used.add(place.location)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(turns + nodes)
    return sorted(used)


def _turn(tensor: TensorProto) -> NodeProto:
    """Swap the sizes of a matrix, rename it, and return the node that gives the old one back."""
    name, sizes = tensor.name, list(tensor.dims)
    tensor.name = f"{name}.turned"
    del tensor.dims[:]
    tensor.dims.extend(reversed(sizes))
    return helper.make_node("Transpose", [tensor.name], [name], perm=[1, 0])


def _tensors(folder: Path, file: str) -> dict[bytes, _Place]:
    """Index a safetensors file's tensors by their bytes."""
    data = (folder / file).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    spans = (
        (start + a, start + b) for a, b in (entry["data_offsets"] for entry in header.values())
    )
    return {data[a:b]: _Place(file, a, b - a) for a, b in spans}
