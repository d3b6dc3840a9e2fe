"""Compile the fused graph with TensorRT or TensorRT for RTX, and prove what was compiled.

The network is strongly typed: its precision is the graph's. Each bucket is one optimisation
profile of exactly that batch size, so that a CUDA graph can be captured for it. TensorRT for RTX
compiles for a GPU that is not there; TensorRT only for the one that is.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.options import ExportOptions
from sidestep.engines.tensorrt_library import Library, has_driver, load_library, make_logger
from sidestep.errors import CompileFailed, InvalidRequest
from sidestep.model_folder import ModelCard

OPSET = 22  # the last whose graphs both libraries build; it has GroupNormalization
SPACE = 30_000_000  # bytes of kernels that a plan may hold for each bucket; 10 to 22 million seen
PREDICTION = 2  # layers of an fp16 network in fp32: norm and convolution of its end
WORKERS = ("CONVOLUTION", "MATRIX_MULTIPLY", "NORMALIZATION")  # the layers that do the arithmetic


@dataclass(frozen=True)
class Built:
    """A serialised engine and what was found out about it."""

    data: Any
    tensors: dict[str, Any]
    layer_types: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Plan:
    """A plan in a file of `size` bytes, and what was found out about it."""

    file: Path
    size: int
    tensors: dict[str, Any]
    layer_types: dict[str, dict[str, int]]


def check_target(options: ExportOptions) -> Library:
    """Import the library and make sure that it can compile for the target.

    Raises BackendUnavailable without the library, InvalidRequest for a target out of reach.
    """
    if options.to == "tensorrt" and options.target != "current":
        raise InvalidRequest(
            f"tensorrt compiles for the GPU that is here, not for {options.target}; use "
            "--target current, or --to tensorrt-rtx",
            field="target",
        )
    library = load_library(options.to)
    if options.target == "current" and not has_driver():
        raise InvalidRequest(
            "target current needs a GPU and its driver, and none answers here; name one such as "
            "--target sm89 with --to tensorrt-rtx",
            field="target",
        )
    return library


def build_plan(library: Library, graph: Path, card: ModelCard, options: ExportOptions) -> Built:
    """Parse `graph`, check what it takes and gives, and build a plan with a profile per bucket.

    In this process, which a fault of the library may end: see `export.builder`. Raises
    CompileFailed where the library refuses the graph.
    """
    trt = library.trt
    logger, errors = make_logger(library)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        found = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise CompileFailed(f"{library.name} cannot read {graph.name}: {_first(found)}")
    tensors = _tensors(network)
    check_tensors(tensors, card)
    data = builder.build_serialized_network(network, _configure(trt, builder, card, options))
    if data is None:
        raise CompileFailed(f"{library.name} cannot build {graph.name}: {_first(errors)}")
    return Built(data, tensors, layer_types(network))


def _configure(trt: Any, builder: Any, card: ModelCard, options: ExportOptions) -> Any:
    config = builder.create_builder_config()
    if options.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # the default, which rounds inputs to 10 bits
    for bucket in options.buckets:
        profile = builder.create_optimization_profile()
        for name, size in (("input_ids", (card.tokens,)), ("noise", card.noise_shape)):
            profile.set_shape(name, *[(bucket, *size)] * 3)  # the least, the best, the most
        config.add_optimization_profile(profile)
    if options.target != "current":
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, options.target.upper()), 0)
    return config


def check_tensors(tensors: dict[str, Any], card: ModelCard) -> None:
    """Compare what a network takes and gives with the card; raises CompileFailed."""
    wanted = {
        "input_ids": ["INT64", [-1, card.tokens]],
        "noise": ["FLOAT", [-1, *card.noise_shape]],
        "pixels": ["UINT8", [-1, *card.image_size, 3]],
    }
    if tensors != wanted:
        raise CompileFailed(f"the network takes and gives {tensors}; it should be {wanted}")


def layer_types(network: Any) -> dict[str, dict[str, int]]:
    """Count a network's layers by kind and by the type of their first result."""
    counts: dict[str, Counter[str]] = {}
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        if layer.num_outputs:
            kind = counts.setdefault(layer.type.name, Counter())
            kind[layer.get_output(0).dtype.name] += 1
    return {kind: dict(types) for kind, types in sorted(counts.items())}


def prove_precision(
    plan: Plan, options: ExportOptions, weights_bytes: int, *, steps: int = 1, kept: bool = False
) -> dict[str, Any]:
    """Show from the parsed network's types and the plan's size that it computes as was asked.

    The size of a small plan decides nothing, since kernels are most of it; the result says so.
    weights_bytes: what the graph's weights take; steps: how often the UNet is in it
    kept: whether more of an fp16 network is in fp32 than the end of its UNet
    Raises CompileFailed where either says otherwise.
    """
    precision = options.precision
    wanted, other = ("HALF", "FLOAT") if precision == "fp16" else ("FLOAT", "HALF")
    work = Counter[str]()
    for kind in WORKERS:
        work.update(plan.layer_types.get(kind, {}))
    strays = work[other]
    allowed = steps * PREDICTION if precision == "fp16" else 0
    if not work[wanted] or (strays > allowed and not kept):
        raise CompileFailed(
            f"the network was to compute in {precision}, but {strays} of {work.total()} "
            f"convolutions, products and norms give {other}"
        )
    size = plan.size
    least, most = 0.9 * weights_bytes, weights_bytes + len(options.buckets) * SPACE
    if not least <= size <= most:
        raise CompileFailed(
            f"the plan has {size} bytes; {precision} weights of {weights_bytes} bytes and "
            f"{len(options.buckets)} buckets make {least:.0f} to {most:.0f}"
        )
    return {
        "computing_layers": dict(work),
        "plan_bytes": size,
        "weights_bytes": weights_bytes,
        "size_decides": most < 0.9 * 2 * weights_bytes if precision == "fp16" else True,
    }


def _tensors(network: Any) -> dict[str, Any]:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    return {t.name: [t.dtype.name, list(t.shape)] for t in (*inputs, *outputs)}


def _first(errors: list[str]) -> str:
    return " ".join(errors[0].split())[:300] if errors else "no reason given"
