"""Write a norm's scale and shift as one node."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper
from onnxscript.optimizer import remove_unused_nodes


def join_scale_and_shift(model: onnx.ModelProto) -> None:
    """Replace Mul and Add after an InstanceNormalization by one BatchNormalization, which equals.

    At opset 20 a GroupNorm is InstanceNormalization, Reshape, Mul by [C, 1, 1], Add of [C, 1, 1].
    A BatchNormalization with mean 0 and variance 1 passes over the picture once and not twice.
    """
    graph = model.graph
    readers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    constants = {tensor.name: tensor for tensor in graph.initializer}

    def only_reader(node: NodeProto, kind: str) -> NodeProto | None:
        found = readers[node.output[0]]
        return found[0] if len(found) == 1 and found[0].op_type == kind else None

    def per_channel(node: NodeProto) -> NDArray[np.float32] | None:
        values = [numpy_helper.to_array(constants[i]) for i in node.input if i in constants]
        fits = len(values) == 1 and values[0].ndim >= 3 and values[0].shape[-3] == values[0].size
        return values[0].reshape(-1) if fits else None

    for norm in [node for node in graph.node if node.op_type == "InstanceNormalization"]:
        reshape = only_reader(norm, "Reshape")
        mul = only_reader(reshape, "Mul") if reshape else None
        add = only_reader(mul, "Add") if mul else None
        if reshape is None or mul is None or add is None:
            continue
        scale, shift = per_channel(mul), per_channel(add)
        if scale is not None and shift is not None:
            _replace(graph, mul, add, {"scale": scale, "shift": shift})
    remove_unused_nodes(model)


def _replace(
    graph: onnx.GraphProto, mul: NodeProto, add: NodeProto, weights: dict[str, NDArray[np.float32]]
) -> None:
    """Put the BatchNormalization in the place of `mul`; nothing reads `mul` or `add` then."""
    ones = np.ones_like(weights["scale"])
    statistics = {f"zeros{ones.size}": 0 * ones, f"ones{ones.size}": ones}
    known = {tensor.name for tensor in graph.initializer}
    named = {f"{mul.output[0]}.{key}": value for key, value in weights.items()} | statistics
    for name, value in named.items():
        if name not in known:
            graph.initializer.append(numpy_helper.from_array(value, name))
    (norm,) = (name for name in mul.input if name not in known)
    joined = helper.make_node(
        "BatchNormalization",
        [norm, *named],
        [add.output[0]],
        f"{add.output[0]}.affine",
        epsilon=0.0,
    )
    graph.node.insert(list(graph.node).index(mul), joined)
    graph.node.remove(add)
