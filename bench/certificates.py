"""Whether a speed counts: an engine that draws something else is not fast, it is wrong."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sidestep.engines.tensorrt_library import has_driver
from sidestep.errors import InvalidRequest
from sidestep.model_folder import CERTIFICATE, COMPILED, ModelFolder

# The engine's name in its spec -> the folder of its export.
_EXPORTS = {
    "onnx-cpu": "onnx",
    "onnx-cuda": "onnx",
    "onnx-cuda-fp16": "onnx-fp16",
    "openvino-fp32": "openvino-fp32",
    "openvino-bf16": "openvino-bf16",
}
_COMPARE = {">=": operator.ge, "<=": operator.le}


def certificate_of(folder: ModelFolder, engine: str) -> Path | None:
    """Return where the certificate of an engine should be; None for those that need none.

    A plan's engine tells compiler and precision, and this machine's GPU which of such plans it is.
    """
    if engine.startswith("pytorch") or engine == "fake":
        return None
    if export := _EXPORTS.get(engine.removesuffix("-small")):
        return folder.path / folder.place(export) / CERTIFICATE
    compiler, precision = engine.removesuffix("-small").rsplit("-", 1)
    compiler = compiler.removesuffix("-cpu").removesuffix("-cuda")  # which AOTInductor's tells too
    plans = folder.path / folder.place(COMPILED)
    places = [plans / f"{compiler}-{target}-{precision}" for target in _targets_here(compiler)]
    return next(filter(Path.is_dir, places), places[0]) / CERTIFICATE


def faults_of(folder: ModelFolder, engine: str) -> list[str]:
    """List what is wrong with an engine's certificate; a speed with any fault is invalid.

    The eager fp32 PyTorch engine is what certificates compare with, and has none.
    """
    if engine == "fake":
        return ["the fake engine draws nothing"]
    path = certificate_of(folder, engine)
    if path is None:
        return []
    where = path.relative_to(folder.path)
    return [f"{where}: {fault}" for fault in faults_in(path, folder.card.weights, run=True)]


def faults_in(path: Path, weights: str, *, run: bool = False) -> list[str]:
    """List what is wrong with a certificate that should be of these weights.

    run: whether what was compiled must have drawn, and not its graph alone
    """
    try:
        certificate = json.loads(path.read_text(encoding="utf-8"))
        return _broken(certificate, weights) + _never_run(certificate) * run
    except FileNotFoundError:
        return ["it is missing; run sidestep export"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"it is damaged ({error!r})"]


def gate_faults(folder: ModelFolder, gates: Sequence[str]) -> list[str]:
    """List the quality gates, such as "recognised>=0.8", that the card's figures do not pass.

    Raises InvalidRequest for a gate that cannot be read.
    """
    faults = []
    for gate in gates:
        name, relation, bound = _read_gate(gate)
        measured = folder.card.quality.get(name)
        if not isinstance(measured, int | float):
            faults.append(f"quality gate {gate}: {name} was not measured on this model")
        elif not _COMPARE[relation](measured, bound):
            faults.append(f"quality gate {gate}: {name} is {measured:g}")
    return faults


def _read_gate(gate: str) -> tuple[str, str, float]:
    """Part a gate into name, relation and bound."""
    found = re.fullmatch(r"\s*(\w+)\s*(>=|<=)\s*([-+.\de]+)\s*", gate)
    with suppress(ValueError):  # such as 0.8.1
        if found:
            return found[1], found[2], float(found[3])
    raise InvalidRequest(f"gate is {gate!r}; it must be NAME>=NUMBER or NAME<=NUMBER", field="gate")


def _targets_here(compiler: str) -> tuple[str, ...]:
    """Name what a plan that opens here can have been compiled for, in the engine's order."""
    if compiler == "aoti" or not has_driver():
        return ("current",)
    from sidestep.engines.tensor_rt import targets_here

    return targets_here()


def _never_run(certificate: dict[str, Any]) -> list[str]:
    """Tell of a plan for a GPU that was not there, of which only the graph has drawn."""
    if certificate.get("proof", {}).get("plan", {}).get("run", True):
        return []
    return ["it is of the graph alone; run sidestep export with --target current on this GPU"]


def _broken(certificate: dict[str, Any], weights: str) -> list[str]:
    faults = []
    if certificate["weights"] != weights:
        faults.append("it is of other weights than the model's")
    for name in ("largest_difference", "batch_invariance"):
        if certificate[name] > certificate["tolerance"]:
            faults.append(
                f"{name} is {certificate[name]} levels of 255, above {certificate['tolerance']}"
            )
    psnr, least = certificate["psnr_db"], certificate["least_psnr_db"]
    if psnr is not None and psnr < least:
        faults.append(f"PSNR is {psnr} dB, below {least}")
    return faults
