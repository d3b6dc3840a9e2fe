"""Compile the generator with AOTInductor, for the device that is here."""

from __future__ import annotations

import warnings

import torch

from export.certificate import Certificate, certify
from export.job import Job
from export.onnx import fused_inputs
from export.options import ExportOptions
from export.unrolled import fold
from sidestep.engines.aot_inductor import AotInductorEngine, device_here
from sidestep.engines.manifest import PACKAGE, Manifest, write_manifest
from sidestep.engines.pytorch import forbid_tf32
from sidestep.engines.torch_module import GeneratorModule
from sidestep.errors import CompileFailed, InvalidRequest, one_line
from sidestep.files import sha256


def check_device(options: ExportOptions) -> None:
    """Raise InvalidRequest for a target that is not here or a precision that it computes badly."""
    if options.target != "current":
        raise InvalidRequest(
            f"aoti compiles for the device that is here, not for {options.target}; use "
            "--target current",
            field="target",
        )
    if options.precision == "fp16" and not torch.cuda.is_available():
        raise InvalidRequest(
            "aoti in fp16 needs a GPU, which does not answer here; use --precision fp32",
            field="precision",
        )


def export_package(generator: GeneratorModule, job: Job) -> tuple[Certificate, list[str]]:
    """Write `generator.pt2` and its manifest; returns the certificate of the package itself."""
    card, precision = job.folder.card, job.options.precision
    module = job.apply_precision(fold(generator))
    job.stage("compile with AOTInductor")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    forbid_tf32()  # the compiler reads it
    inputs = {name: value.to(device) for name, value in fused_inputs(card).items()}
    batch = torch.export.Dim("batch", min=1, max=1024)
    package = job.out / PACKAGE
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the compiler's own
            program = torch.export.export(
                module.to(device),
                tuple(inputs.values()),
                dynamic_shapes=({0: batch}, {0: batch}),
            )
            torch._inductor.aoti_compile_and_package(program, package_path=str(package))
    except (RuntimeError, OSError) as error:  # a missing C++ compiler among them
        reason = one_line(error)
        raise CompileFailed(f"AOTInductor cannot compile the generator: {reason}") from error
    here = device_here(torch)
    manifest = Manifest(
        library="aoti",
        library_version=str(here["library_version"]),
        target="current",
        precision=precision,
        buckets=(),
        tensors={name: [str(v.dtype), [-1, *v.shape[1:]]] for name, v in inputs.items()},
        layer_types={},
        plan_bytes=package.stat().st_size,
        plan=sha256(package),
        onnx="",  # it was compiled from the module itself
        weights=card.weights,
        gpu=here["gpu"],
        driver=here["driver"],
    )
    write_manifest(job.out, manifest)
    job.stage("certify")
    engine = AotInductorEngine(job.folder, plan=job.out)
    return certify(job.reference, engine, precision=precision, proof=job.proof), []
