"""A plan for one GPU, with the manifest that binds it there."""

from __future__ import annotations

from export.builder import compile_plan
from export.certificate import Certificate, certify
from export.job import Job
from export.onnx import export_onnx, fused_inputs, merge_equal_weights, save
from export.tensorrt import OPSET, check_target, prove_precision
from export.unrolled import fold
from sidestep.engines.manifest import PLAN, Manifest, write_manifest
from sidestep.engines.onnx_runtime import OnnxRuntimeEngine
from sidestep.engines.tensor_rt import TensorRtEngine
from sidestep.engines.tensorrt_library import driver_of
from sidestep.engines.torch_module import GeneratorModule
from sidestep.files import sha256


def export_plan(generator: GeneratorModule, job: Job) -> tuple[Certificate, list[str]]:
    """Write `generator.plan` and `manifest.json`; returns the certificate of what was compiled.

    The graph is certified in ONNX Runtime before it is compiled; where the plan's GPU is here,
    the plan itself is certified as well, else the certificate says that it was not run.
    """
    options, card = job.options, job.folder.card
    library = check_target(options)
    module = job.apply_precision(fold(generator))
    job.stage("export ONNX")
    model = export_onnx(module, fused_inputs(card), ["pixels"], opset=OPSET)
    module.to("meta")  # its weights are in the graph now
    if card.steps > 1:
        merge_equal_weights(model)
    weights_bytes = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    graph = job.out.parent / "graph" / "generator.onnx"  # beside the plan's folder, not kept
    save(model, graph)
    del model
    job.stage("certify the graph")
    engine = OnnxRuntimeEngine(job.folder, graph=graph)
    certificate = certify(job.reference, engine, precision=options.precision, proof=job.proof)
    del engine
    job.stage(f"compile for {options.target}")
    plan = compile_plan(graph, card, options)
    kept = bool(job.proof.get("fp16", {}).get("kept_in_fp32"))
    proof = prove_precision(plan, options, weights_bytes, steps=card.steps, kept=kept)
    plan.file.rename(job.out / PLAN)
    gpu, driver = driver_of() if options.target == "current" else (None, None)
    write_manifest(
        job.out,
        Manifest(
            library=library.name,
            library_version=library.version,
            target=options.target,
            precision=options.precision,
            buckets=options.buckets,
            tensors=plan.tensors,
            layer_types=plan.layer_types,
            plan_bytes=plan.size,
            plan=sha256(job.out / PLAN),
            onnx=sha256(graph),
            weights=card.weights,
            gpu=gpu,
            driver=driver,
        ),
    )
    if options.target == "current":
        job.stages.set_description("certify the plan")
        runner = TensorRtEngine(job.folder, plan=job.out)
        certificate = certify(
            job.reference,
            runner,
            precision=options.precision,
            proof=certificate.proof,
            batches=options.buckets,  # each has a profile and a graph of its own
        )
    certificate.proof["plan"] = {**proof, "run": options.target == "current"}
    return certificate, []
