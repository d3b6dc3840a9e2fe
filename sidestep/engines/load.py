"""Choose and open the engine of a model folder."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sidestep.engines.contract import Engine
from sidestep.errors import BackendUnavailable, EngineMismatch, InvalidRequest, NoGpu
from sidestep.model_folder import COMPILED, ONNX, ONNX_FP16, ModelFolder

log = logging.getLogger("sidestep.engines")


def load_engine(folder: ModelFolder, name: str = "auto") -> Engine:
    """Open `folder` in an engine; "auto" takes the fastest that works here and logs why.

    Raises InvalidModel for a damaged file, BackendUnavailable for a missing package, NoGpu and
    EngineMismatch where an engine that was asked for by name cannot run here.
    """
    if name not in ENGINES:
        raise InvalidRequest(f"engine must be one of {', '.join(ENGINES)}", field="engine")
    if name != "auto":
        return _OPEN[name](folder)
    passed: list[str] = []
    for candidate, reason_against in _AUTO:
        if reason := reason_against(folder):
            passed.append(f"{candidate}: {reason}")
            continue
        try:
            engine = _OPEN[candidate](folder)
        except (BackendUnavailable, EngineMismatch, NoGpu) as error:
            passed.append(f"{candidate}: {error}")
            continue
        faster = "".join(f"; not {reason}" for reason in passed)
        log.info("engine %s, the fastest that works here%s", engine.spec.name, faster)
        return engine
    raise BackendUnavailable("an engine for this model", "train")


def _onnx(folder: ModelFolder) -> Engine:
    from sidestep.engines.onnx_runtime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(folder)


def _onnx_cuda(folder: ModelFolder) -> Engine:
    from sidestep.engines.onnx_runtime_cuda import OnnxRuntimeCudaEngine

    return OnnxRuntimeCudaEngine(folder)


def _tensorrt(folder: ModelFolder) -> Engine:
    from sidestep.engines.tensor_rt import TensorRtEngine

    return TensorRtEngine(folder)


def _openvino(folder: ModelFolder) -> Engine:
    from sidestep.engines.open_vino import OpenVinoEngine

    return OpenVinoEngine(folder)


def _openvino_bf16(folder: ModelFolder) -> Engine:
    from sidestep.engines.open_vino import OpenVinoEngine

    return OpenVinoEngine(folder, precision="bf16")


def _aoti(folder: ModelFolder) -> Engine:
    from sidestep.engines.aot_inductor import AotInductorEngine

    return AotInductorEngine(folder)


def _fake(folder: ModelFolder) -> Engine:
    from sidestep.engines.fake import FakeEngine

    return FakeEngine.like(folder.card)


def _pytorch(folder: ModelFolder) -> Engine:
    from sidestep.engines.pytorch import PyTorchEngine

    return PyTorchEngine(folder)


_OPEN: dict[str, Callable[[ModelFolder], Engine]] = {
    "tensorrt": _tensorrt,
    "onnx-cuda": _onnx_cuda,
    "onnx": _onnx,
    "openvino": _openvino,
    "openvino-bf16": _openvino_bf16,
    "aoti": _aoti,
    "pytorch": _pytorch,
    "fake": _fake,
}
ENGINES = ("auto", *_OPEN)


def _no_plan(folder: ModelFolder) -> str:
    return "" if (folder.path / folder.place(COMPILED)).is_dir() else "no plan was compiled"


def _no_cuda_graph(folder: ModelFolder) -> str:
    if not folder.has(folder.place(ONNX_FP16)):
        return "no fp16 graph was exported"
    from sidestep.engines.tensorrt_library import has_driver

    return "" if has_driver() else "no GPU answers"


def _no_graph(folder: ModelFolder) -> str:
    return "" if folder.has(folder.place(ONNX)) else "no graph was exported"


# The fastest first. OpenVINO is left out: what it gains depends on the CPU, and in bf16 its
# pictures are not the reference's within 1/255.
_AUTO: tuple[tuple[str, Callable[[ModelFolder], str]], ...] = (
    ("tensorrt", _no_plan),
    ("onnx-cuda", _no_cuda_graph),
    ("onnx", _no_graph),
    ("pytorch", lambda _: ""),
)
