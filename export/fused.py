"""The fused layout: one graph from token ids and noise to pixels."""

from __future__ import annotations

from export.affine import join_scale_and_shift
from export.certificate import Certificate, certify
from export.job import Job
from export.onnx import export_onnx, fused_inputs, halve_exact_weights, merge_equal_weights, save
from export.shared_weights import share_weights
from export.unrolled import fold
from sidestep.engines.contract import Engine
from sidestep.engines.onnx_runtime import OnnxRuntimeEngine
from sidestep.engines.open_vino import OpenVinoEngine
from sidestep.engines.torch_module import GeneratorModule


def export_fused(generator: GeneratorModule, job: Job) -> tuple[Certificate, list[str]]:
    """Write `generator.onnx`; returns its certificate and the files whose weights it shares."""
    module = job.apply_precision(fold(generator))
    job.stage("export ONNX")
    model = export_onnx(module, fused_inputs(job.folder.card), ["pixels"])
    module.to("meta")  # its weights are in the graph now
    if job.options.precision != "fp16":
        join_scale_and_shift(model)
    if job.folder.card.steps > 1:
        merge_equal_weights(model)
    halve_exact_weights(model)
    folder = job.folder
    shares = share_weights(model, folder.path, folder.weight_files) if job.options.share else []
    graph = job.out / "generator.onnx"
    save(model, graph)
    del model
    job.stage("certify")
    precision = job.options.precision
    engine: Engine
    if job.options.to == "openvino":
        engine = OpenVinoEngine(folder, precision=precision, graph=graph)
    else:
        engine = OnnxRuntimeEngine(folder, graph=graph)
    return certify(job.reference, engine, precision=precision, proof=job.proof), shares
