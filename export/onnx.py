"""Write a module as an ONNX graph with a dynamic batch."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxscript.optimizer import remove_unused_nodes
from torch import Tensor, nn

from sidestep.model_folder import ModelCard

OPSET = 20  # ONNX Runtime has no kernel for the GroupNormalization of opset 21
LARGEST = 1_900_000_000  # bytes of weights in one file; protocol buffers end at 2 GiB


def export_onnx(
    module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], *, opset: int = OPSET
) -> onnx.ModelProto:
    """Trace a module with a dynamic batch, which is 2 in `inputs`; other sizes stay as they are.

    fp16 weights make an fp16 graph.
    """
    batch = torch.export.Dim("batch", min=1, max=1024)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own deprecations, nothing of ours
        program = torch.onnx.export(
            module,
            tuple(inputs.values()),
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=tuple({0: batch} if len(v) == 2 else {} for v in inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    make_shapes_constant(model)
    return model


def fused_inputs(card: ModelCard) -> dict[str, Tensor]:
    """Return the inputs that the fused graph is traced with."""
    return {
        "input_ids": torch.full((2, card.tokens), 1, dtype=torch.int64),
        "noise": torch.zeros((2, *card.noise_shape)),
    }


def save(model: onnx.ModelProto, path: Path, *, largest: int = LARGEST) -> None:
    """Check a graph and write it, with its weights in `path`.data where they exceed `largest`.

    What it says of the machine it was made on is left out.
    """
    _forget_paths(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = model.graph.initializer
    if sum(len(tensor.raw_data) for tensor in weights) <= largest:
        if all(tensor.data_location != TensorProto.EXTERNAL for tensor in weights):
            onnx.checker.check_model(model)  # which cannot see the files of shared weights
        onnx.save_model(model, path)
    else:
        data = f"{path.name}.data"
        onnx.save_model(model, path, save_as_external_data=True, location=data)
        onnx.checker.check_model(str(path))


def make_shapes_constant(model: onnx.ModelProto) -> None:
    """Give every Reshape a constant shape, with -1 for the batch, and drop what computed it.

    The exporter computes [B, C, H, W] at run time although only B varies.
    """
    graph = model.graph
    known = {value.name: value.type.tensor_type.shape.dim for value in graph.value_info}
    constants = {tensor.name for tensor in graph.initializer}
    shape_of = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Shape"}
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[1] in constants:
            continue
        like = shape_of.get(node.input[1], node.output[0])
        dims = [dim.dim_value or -1 for dim in known.get(like, [])]
        if dims and dims.count(-1) <= 1:
            node.input[1] = f"{node.output[0]}.shape"
            graph.initializer.append(
                numpy_helper.from_array(np.array(dims, np.int64), node.input[1])
            )
    remove_unused_nodes(model)


def merge_equal_weights(model: onnx.ModelProto) -> None:
    """Keep one of all weights that are equal.

    The exporter folds constants where they are used, so that several steps of a generator have
    each their own copy of a weight that it transposed.
    """
    graph = model.graph
    first: dict[object, str] = {}
    renamed = {}
    for tensor in graph.initializer:
        digest = hashlib.sha256(tensor.raw_data).digest() if tensor.raw_data else tensor.name
        name = first.setdefault((tensor.data_type, *tensor.dims, digest), tensor.name)
        if name != tensor.name:
            renamed[tensor.name] = name
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name in renamed:
            del graph.initializer[index]
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]


def halve_exact_weights(model: onnx.ModelProto) -> None:
    """Store every fp32 weight that fp16 holds exactly as fp16, followed by a cast to fp32.

    Weights read from fp16 safetensors lose nothing and the file is half as large; folded ones
    stay fp32. Engines fold the casts when they load the graph.
    """
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size < 64 or not np.array_equal(half.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.fp16"))
        casts.append(helper.make_node("Cast", [f"{name}.fp16"], [name], to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend(casts + nodes)


def _forget_paths(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes, which hold stack traces with the paths of this machine."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
