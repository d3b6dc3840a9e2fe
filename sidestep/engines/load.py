"""Choose and open the engine of a model folder."""

from __future__ import annotations

from sidestep.engines.contract import Engine
from sidestep.engines.fake import FakeEngine
from sidestep.errors import InvalidRequest
from sidestep.model_folder import ONNX, ModelFolder

ENGINES = ("auto", "onnx", "pytorch", "fake")


def load_engine(folder: ModelFolder, name: str = "auto") -> Engine:
    """Open `folder` in an engine; "auto" takes the ONNX graph where the folder has one.

    Raises InvalidModel for a damaged file and BackendUnavailable for a missing package.
    """
    if name not in ENGINES:
        raise InvalidRequest(f"engine must be one of {', '.join(ENGINES)}", field="engine")
    if name == "onnx" or (name == "auto" and folder.has(ONNX)):
        from sidestep.engines.onnx_runtime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(folder)
    if name == "fake":
        return FakeEngine.like(folder.card)
    from sidestep.engines.pytorch import PyTorchEngine

    return PyTorchEngine(folder)
