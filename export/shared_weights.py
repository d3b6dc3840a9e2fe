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

import onnx
from onnx import TensorProto

_SMALLEST = 1024  # bytes; below it a reference costs as much as the tensor


@dataclass(frozen=True)
class _Place:
    """Where a tensor's bytes lie: a file's name inside the model folder, offset and length."""

    location: str
    offset: int
    length: int


def share_weights(model: onnx.ModelProto, folder: Path, files: Iterable[str]) -> list[str]:
    """Replace the tensors of a graph that `files` hold byte for byte by references.

    Returns the files that the graph then reads.
    """
    places: dict[bytes, _Place] = {}
    for file in files:
        places.update(_tensors(folder, file))
    used = set()
    for tensor in model.graph.initializer:
        place = places.get(tensor.raw_data)
        if place is None or len(tensor.raw_data) < _SMALLEST:
            continue
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key in ("location", "offset", "length"):
            tensor.external_data.add(key=key, value=str(getattr(place, key)))
        used.add(place.location)
    return sorted(used)


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
